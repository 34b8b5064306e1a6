"""The settings of a run: small limits, so that a small case meets them."""

from __future__ import annotations

from random import Random

from durabletask_azure.settings import Settings

__all__ = ["ROWS_MAX", "settings_of"]

ROWS_MAX = {"": 100, "all": 12, "staging": 6}
"""Rows of one transaction, by how tight a profile is: commits are staged, groups split, deletions cut."""
_FEW_TASKS = (11, 12, 15)
"""Seeds, modulo 16, with which hardly any activity task is kept until it is sent."""


def settings_of(seed: int, tight: str = "") -> Settings:
    """Return small limits: spills, segments, evictions, moved unsent names.

    With ``tight`` there is hardly any room at all; as ``"staging"`` every event becomes a row of its own.
    """
    random = Random(f"settings/{seed}/{tight}")
    staging = tight == "staging"
    ids_are_few = tight and random.random() < 0.5
    return Settings(
        payload_inline_bytes_max=random.choice((200, 2_000)) if tight else 2_000,
        history_inline_bytes_max=1
        if staging
        else random.choice((1, 300) if tight else (1_000, 4_000, 32_000)),
        segment_bytes_max=1 if staging else random.choice((1, 200, 600) if tight else (2_000, 20_000)),
        executions_kept=10 if staging else random.choice((0, 1) if tight else (0, 2, 10)),
        receive_messages_max=random.choice((1, 3, 200)),
        commit_instances_max=50 if staging else random.choice((1, 2, 50)),
        pipeline_turns_max=random.choice((1, 2, 2)),
        unsent_names_max=random.choice((1, 2) if tight else (1, 3, 200)),
        unsettled_max=random.choice((1, 2, 5) if tight else (5, 1_000)),
        warm_instances_max=random.choice((1, 3, 2_000)),
        # Few remembered ids go with a short memory: an event waits for room until an old id expires.
        seen_ids_max=6 if ids_are_few else 10_000,
        seen_ids_s=400.0 if ids_are_few else 3_600.0,
        pending_bytes_max=600 if tight else 24 * 1024,
        sweep_s=120.0,
        heartbeat_s=10.0,
        balance_s=5.0,
        tombstone_s=3_600.0,
        unregistered_retry_s=10.0,
        stop_grace_s=20.0,
        # Not drawn: the seeds that are recorded stay what they were.
        unsent_tasks_max=1 + seed % 3 if seed % 16 in _FEW_TASKS else 10_000,
    )

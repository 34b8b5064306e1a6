"""What a worker did so far, as plain numbers: for tests that count, statistics, and later telemetry."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Totals since the worker started."""

    turns: int = 0
    commits: int = 0
    lock_writes: int = 0
    events: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    messages_dropped: int = 0
    redeliveries: int = 0
    refused_commits: int = 0
    own_commits_recognised: int = 0
    partitions_taken: int = 0
    partitions_lost: int = 0
    instances_loaded: int = 0
    replayed_events: int = 0
    careful_turns: int = 0
    dead_lettered: int = 0
    dead_letters: int = 0
    slow_turns: int = 0
    activities_started: int = 0
    activities_finished: int = 0
    activities_failed: int = 0
    payloads_put: int = 0
    payloads_got: int = 0

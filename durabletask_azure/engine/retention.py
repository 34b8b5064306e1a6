"""Purges what has ended and was kept long enough (B128): the owner's own work, no client has to run.

Each partition's owner looks every ``retention_sweep_s``, by the store's own time, and gives itself the orders a client
would send, at most ``retention_purges_max`` at once: they go the way of every purge, so nothing unsent is taken away
and a tombstone is left. Nothing is noted anywhere: what an owner did not get to, the next one finds again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.messages import Inbound, Message, PurgeInstance
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.engine.retrying import patiently
from durabletask_azure.ports import EndedInstance
from durabletask_azure.settings import Settings

if TYPE_CHECKING:
    from durabletask_azure.engine.partition import PartitionOwner

__all__ = ["keep_retention", "retentions"]

_PAUSE_S = 0.05
_IDLE_LOOKS_MAX = 100
_log = logging.getLogger("durabletask_azure.engine.retention")


def retentions(settings: Settings) -> dict[RuntimeStatus, float]:
    """Return for how many seconds instances of a status are kept; a status that is missing is kept until purged."""
    own = {
        RuntimeStatus.COMPLETED: settings.retention_completed_s,
        RuntimeStatus.FAILED: settings.retention_failed_s,
        RuntimeStatus.TERMINATED: settings.retention_terminated_s,
    }
    chosen = {status: settings.retention_s if kept_s is None else kept_s for status, kept_s in own.items()}
    return {status: kept_s for status, kept_s in chosen.items() if kept_s is not None}


async def keep_retention(owner: PartitionOwner) -> None:
    """Purge what was kept long enough, at once and then at intervals, until the tenure ends."""
    kept_s = retentions(owner.settings)
    if not kept_s:
        return
    while owner.is_alive():
        for status, seconds in kept_s.items():
            await _sweep(owner, status, seconds)
        await owner.ports.clock.sleep(owner.settings.retention_sweep_s)


async def _sweep(owner: PartitionOwner, status: RuntimeStatus, kept_s: float) -> None:
    """Purge all runs that ended with ``status`` more than ``kept_s`` seconds ago."""
    under_way: set[EndedInstance] = set()
    purged = looks = 0
    while owner.is_alive() and looks < _IDLE_LOOKS_MAX:
        now, found = await _ended(owner, status, kept_s)
        new = [one for one in found if one not in under_way]
        purged += len(new)
        looks = 0 if new else looks + 1
        # What is not found any more is gone; so no more than one portion is ever under way.
        under_way = set(found)
        for one in new:
            owner.inbox.order(Inbound(message=_order(one), enqueued_at=now))
        if not new and len(found) < owner.settings.retention_purges_max:
            break
        await owner.ports.clock.sleep(_PAUSE_S)
    if purged:
        _log.info("%s: %d %s instances were kept long enough", owner.name, purged, status.value)


async def _ended(
    owner: PartitionOwner, status: RuntimeStatus, kept_s: float
) -> tuple[datetime, Sequence[EndedInstance]]:
    """Return the store's time and what was kept long enough by then, one portion of it."""

    async def look() -> tuple[datetime, Sequence[EndedInstance]]:
        store = owner.ports.store
        now = await store.server_time()
        try:
            until = now - timedelta(seconds=kept_s)
        except OverflowError:  # nothing is as old as that
            return now, ()
        portion = owner.settings.retention_purges_max
        return now, await store.ended_before(owner.partition, status, until, portion)

    what = "looking for what was kept long enough"
    return await patiently(owner.ports.clock, owner.settings, what, look, keep_going=owner.is_alive)


def _order(one: EndedInstance) -> Message:
    return Message(
        id=stable_id(one.execution_id, "retention"),
        instance_id=one.instance_id,
        execution_id=one.execution_id,
        body=PurgeInstance(),
    )

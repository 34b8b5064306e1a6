"""Purging: each instance is asked for by a message to its owner, and waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from durabletask_azure.core.history import SubOrchestrationInstanceCreatedEvent
from durabletask_azure.core.messages import PurgeInstance
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.engine.instances import InstanceReader
from durabletask_azure.engine.operations.sending import CONFIRM_S, Sending
from durabletask_azure.engine.operations.waiting import Waiting
from durabletask_azure.errors import OrchestrationNotFoundError
from durabletask_azure.ports import Clock, InstanceFilter

__all__ = ["Purging"]

_PURGES_MAX = 200


class Purging:
    """Removes ended instances of one hub."""

    def __init__(self, clock: Clock, sending: Sending, instances: InstanceReader, waiting: Waiting) -> None:
        self._clock = clock
        self._sending = sending
        self._instances = instances
        self._waiting = waiting

    async def purge(self, instance_id: str, *, recursive: bool) -> tuple[int, bool]:
        """Remove an ended instance; return how many instances went, and whether all that were to go did.

        With ``recursive`` the ended sub-orchestrations it started go too. A living or unknown one is left alone.
        """
        stored = await self._instances.stored(instance_id)
        if stored is None or not stored.row.status.is_terminal:
            return 0, True
        doomed = [stored.row]
        if recursive:
            await self._add_children(doomed)
        return await self._purge(doomed, self._clock.monotonic() + CONFIRM_S)

    async def purge_by(
        self, where: InstanceFilter, *, recursive: bool, timeout_s: float | None
    ) -> tuple[int, bool]:
        """Remove all ended instances that fit; return as :meth:`purge`, false also when the time was up."""
        clock = self._clock
        end = None if timeout_s is None else clock.monotonic() + timeout_s
        gone, complete = 0, True
        async for rows in self._instances.all(where, page_size=_PURGES_MAX):
            if end is not None and clock.monotonic() >= end:
                return gone, False
            doomed = [row for row in rows if row.status.is_terminal]
            if recursive:
                await self._add_children(doomed)
            confirm_by = clock.monotonic() + CONFIRM_S
            removed, all_gone = await self._purge(doomed, confirm_by if end is None else min(end, confirm_by))
            gone, complete = gone + removed, complete and all_gone
            if not (removed or all_gone):  # nobody is there: every further page would be waited for in vain
                break
        return gone, complete

    async def _purge(self, doomed: Sequence[InstanceRow], deadline: float) -> tuple[int, bool]:
        await asyncio.gather(*(self._order_purge(row) for row in doomed))
        results = await asyncio.gather(*(self._gone(row, deadline) for row in doomed))
        return sum(results), all(results)

    async def _order_purge(self, row: InstanceRow) -> None:
        # Each row is asked for by itself: a cascade of the owner's would go on after this call has returned.
        await self._sending.send(
            row.instance_id,
            PurgeInstance(),
            message_id=stable_id(row.execution_id, "purge", self._sending.new_id()),
            execution_id=row.execution_id,
        )

    async def _gone(self, row: InstanceRow, deadline: float) -> bool:
        left_s = max(0.0, deadline - self._clock.monotonic())
        try:
            await self._waiting.until(
                row.instance_id, lambda now: now is None or now.execution_id != row.execution_id, left_s
            )
        except TimeoutError:
            return False
        return True

    async def _add_children(self, doomed: list[InstanceRow]) -> None:
        """Add the ended sub-orchestrations of each row, and theirs, once each."""
        known = {row.instance_id for row in doomed}
        for row in doomed:  # grows while it is gone through
            for child in await self._children(row):
                stored = None if child in known else await self._instances.stored(child)
                if stored is None or not stored.row.status.is_terminal:
                    continue
                parent = stored.row.parent
                if parent is not None and parent.instance_id == row.instance_id:
                    known.add(child)
                    doomed.append(stored.row)

    async def _children(self, row: InstanceRow) -> list[str]:
        children: dict[str, None] = {}
        for execution_id in (*(past.execution_id for past in row.past if past.readable), row.execution_id):
            try:
                events = await self._instances.events(row.instance_id, execution_id)
            except OrchestrationNotFoundError:
                continue  # purged or trimmed meanwhile
            for event in events:
                if isinstance(event, SubOrchestrationInstanceCreatedEvent):
                    children[event.instance_id] = None
        return list(children)

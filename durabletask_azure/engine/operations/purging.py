"""Purging: each instance is asked for by a message to its owner, and waited for; many of them portion by portion."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from durabletask_azure.core.history import SubOrchestrationInstanceCreatedEvent
from durabletask_azure.core.messages import Message, PurgeInstance
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.engine.instances import InstancePage, InstanceReader
from durabletask_azure.engine.operations.sending import CONFIRM_S, Sending
from durabletask_azure.engine.operations.waiting import Waiting
from durabletask_azure.errors import OrchestrationNotFoundError
from durabletask_azure.ports import HubPorts, InstanceFilter
from durabletask_azure.settings import Settings

__all__ = ["FilteredPurge", "Purging"]


class Purging:
    """Removes ended instances of one hub."""

    def __init__(
        self,
        ports: HubPorts,
        settings: Settings,
        sending: Sending,
        instances: InstanceReader,
        waiting: Waiting,
    ) -> None:
        self._clock = ports.clock
        self._portion_max = settings.bulk_portion_max
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

    def by_filter(
        self,
        where: InstanceFilter,
        *,
        tags: Mapping[str, str] | None,
        recursive: bool,
        timeout_s: float | None,
    ) -> FilteredPurge:
        """Return the removal of all ended instances that fit, to be carried out portion by portion."""
        return FilteredPurge(self, where, tags, recursive, timeout_s)

    def monotonic(self) -> float:
        """Return the seconds of the hub's clock that deadlines are measured by."""
        return self._clock.monotonic()

    async def page(
        self, where: InstanceFilter, tags: Mapping[str, str] | None, token: str | None
    ) -> InstancePage:
        """Return the instances of one portion."""
        return await self._instances.page(where, tags=tags, count_max=self._portion_max, token=token)

    async def portion(self, page: InstancePage, *, recursive: bool, end: float | None) -> tuple[int, int]:
        """Remove the ended instances of a page; return how many went, and how many did not by ``end``."""
        doomed = [row for row in page.rows if row.status.is_terminal]
        if recursive:
            await self._add_children(doomed)
        # A caller who names a time waits as long, also for owners that have much else to do first.
        gone, _ = await self._purge(doomed, self._clock.monotonic() + CONFIRM_S if end is None else end)
        return gone, len(doomed) - gone

    async def _purge(self, doomed: Sequence[InstanceRow], deadline: float) -> tuple[int, bool]:
        by_partition: dict[int, list[Message]] = {}
        for row in doomed:
            # Each row is asked for by itself: a cascade of the owner's would go on after this call has returned.
            order = Message(
                id=stable_id(row.execution_id, "purge", self._sending.new_id()),
                instance_id=row.instance_id,
                execution_id=row.execution_id,
                body=PurgeInstance(),
            )
            by_partition.setdefault(self._instances.partition_of(row.instance_id), []).append(order)
        await asyncio.gather(*(self._sending.send_all(*entry) for entry in by_partition.items()))
        # One after the other: the owners work on all of them meanwhile, so most are gone when their turn comes.
        results = [await self._gone(row, deadline) for row in doomed]
        return sum(results), all(results)

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


class FilteredPurge:
    """The removal of all ended instances that fit a filter; what it has come to can be read between two steps."""

    def __init__(
        self,
        purging: Purging,
        where: InstanceFilter,
        tags: Mapping[str, str] | None,
        recursive: bool,
        timeout_s: float | None,
    ) -> None:
        self._purging = purging
        self._where = where
        self._tags = tags
        self._recursive = recursive
        self._timeout_s = timeout_s
        self._end: float | None = None
        self._token: str | None = None
        self.gone = 0
        """Instances that went."""
        self.left = 0
        """Instances whose purge nobody confirmed in time."""
        self.is_complete = False
        """Whether all that were to go did; right once :meth:`step` has returned false."""

    async def step(self) -> bool:
        """Purge one more portion; return whether there may be more to do."""
        now = self._purging.monotonic()
        if self._end is None and self._timeout_s is not None:
            self._end = now + self._timeout_s
        if self._end is not None and now >= self._end:
            return False
        page = await self._purging.page(self._where, self._tags, self._token)
        gone, left = await self._purging.portion(page, recursive=self._recursive, end=self._end)
        self.gone += gone
        self.left += left
        self._token = page.token
        if left and not gone:  # nobody is there: every further portion would be waited for in vain
            return False
        self.is_complete = page.token is None and not self.left
        return page.token is not None

"""Holds a worker's share of the partitions: announces the worker, accepts sessions, runs owners, lets go of surplus.

``core.balance`` decides; sessions and fences, not announcements, decide who owns. Every partition is tried in the end,
whatever the rows say: one at a time, each heartbeat, round robin. A process that stood still for longer than
``stall_drop_s`` abandons its partitions before anything else, so that it sends nothing out of an old memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from durabletask_azure.core.balance import decide
from durabletask_azure.engine.retrying import RETRIED, kept_alive, within
from durabletask_azure.errors import TaskHubError
from durabletask_azure.ports import Clock, HubPorts, PartitionSession, WorkerRow
from durabletask_azure.settings import Settings

__all__ = ["Balancer", "Owner", "StallWatch"]

_HEARTBEATS_MISSED_MAX = 3
_ACCEPTS_AT_ONCE_MAX = 8
_ABANDON_S_MAX = 5.0
_log = logging.getLogger("durabletask_azure.engine.balance")


class Owner(Protocol):
    """The tenure of one partition (``engine.partition.PartitionOwner``)."""

    async def run(self) -> None:
        """Own the partition until released, abandoned or lost; close the session."""
        ...

    async def release(self) -> None:
        """Finish what was begun and give the partition back; return when that is done."""
        ...

    def abandon(self) -> None:
        """Stop without sending anything more."""
        ...


class StallWatch:
    """Tells whether this process stood still: by its steady clock or by the time of day, whichever moved further.

    (A steady clock may stop while a machine sleeps; a time of day may be set back.)
    """

    def __init__(self, clock: Clock, limit_s: float) -> None:
        self._clock = clock
        self._limit_s = limit_s
        self._steady = clock.monotonic()
        self._now = clock.now()

    def stood_still(self) -> bool:
        """Return whether more than the limit has passed since the last call."""
        steady, now = self._clock.monotonic(), self._clock.now()
        passed_s = max(steady - self._steady, (now - self._now).total_seconds())
        self._steady, self._now = steady, now
        return passed_s > self._limit_s


class _Tenure:
    __slots__ = ("began", "owner", "releasing", "task")

    def __init__(self, owner: Owner, task: asyncio.Task[None], began: float) -> None:
        self.owner = owner
        self.task = task
        self.began = began
        self.releasing: asyncio.Task[None] | None = None


class Balancer:
    """The partitions of one worker."""

    def __init__(
        self,
        ports: HubPorts,
        settings: Settings,
        *,
        worker_id: str,
        open_owner: Callable[[PartitionSession], Owner],
    ) -> None:
        self._ports = ports
        self._settings = settings
        self._worker_id = worker_id
        self._open_owner = open_owner
        self._clock = ports.clock
        self._partitions = ports.info.partitions
        self._tenures: dict[int, _Tenure] = {}
        self._not_before: dict[int, float] = {}
        self._failures: dict[int, int] = {}
        self._watch = StallWatch(ports.clock, settings.stall_drop_s)
        self._announced: tuple[int, ...] | None = None
        self._announced_at = 0.0
        self._probe_at = ports.clock.monotonic() + settings.heartbeat_s
        self._probe_next = 0
        self._changed = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._stopping = False
        self._balancing: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    @property
    def held(self) -> tuple[int, ...]:
        """The partitions this worker holds, in order."""
        return tuple(sorted(self._tenures))

    def start(self) -> None:
        """Begin to balance, on the running loop."""
        self._balancing = asyncio.create_task(
            kept_alive(self._clock, "balancing", self._balance, self._is_running)
        )
        self._listening = asyncio.create_task(
            kept_alive(self._clock, "watching the workers", self._listen, self._is_running)
        )

    async def stop(self, grace_s: float) -> None:
        """Announce the end, release all partitions at once, abandon what is not released in time, and withdraw."""
        self._stopping = True
        self._changed.set()
        self._release(self.held)
        if self._listening is not None and self._balancing is not None:
            self._listening.cancel()
            # An accept under way is not cut short: whoever is given a session has to close it.
            await asyncio.gather(self._listening, self._balancing, return_exceptions=True)
        await self._tell(self._announce)
        await within(self._clock, grace_s, self._empty)
        if self._tenures:
            _log.warning("partitions %s were not released in time", self.held)
            self._abandon()
            await within(self._clock, _ABANDON_S_MAX, self._empty)
        tasks = [tenure.task for tenure in self._tenures.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._tell(self._withdraw)

    def hurry(self) -> None:
        """Make a :meth:`stop` under way wait no longer."""
        self._abandon()

    def _is_running(self) -> bool:
        return not self._stopping

    # ------------------------------------------------------------------ the loop

    async def _balance(self) -> None:
        while not self._stopping:
            if self._watch.stood_still():
                _log.warning("this process stood still; its partitions %s are dropped", self.held)
                self._abandon()
            self._changed.clear()
            try:
                await self._round()
            except TaskHubError as error:
                _log.warning("balancing waits: %s", error)
            await within(self._clock, self._settings.balance_s, self._changed)

    async def _listen(self) -> None:
        """Wake the balancing when other workers come, go, or let go of something."""
        while not self._stopping:
            try:
                await self._ports.membership.wait_changed(self._settings.heartbeat_s)
            except RETRIED as error:
                _log.info("not told of changes: %s", error)
                await self._clock.sleep(self._settings.balance_s)
            self._changed.set()

    async def _round(self) -> None:
        await self._announce_if_due()
        rows = [row for row in await self._ports.membership.workers() if self._is_fresh(row)]
        now = self._clock.monotonic()
        held = self.held
        decision = decide(self._worker_id, rows, held, self._partitions, probe=self._probe(now, held))
        self._release(decision.release)
        sought = [p for p in decision.seek if self._not_before.get(p, now) <= now]
        for begin in range(0, len(sought), _ACCEPTS_AT_ONCE_MAX):
            await self._accept(sought[begin : begin + _ACCEPTS_AT_ONCE_MAX])
        await self._announce_if_due()

    def _is_fresh(self, row: WorkerRow) -> bool:
        return row.age_s <= self._settings.heartbeat_s * _HEARTBEATS_MISSED_MAX

    def _probe(self, now: float, held: tuple[int, ...]) -> tuple[int, ...]:
        """Return the partition whose turn it is to be tried whatever the rows say, if it is time."""
        if now < self._probe_at or len(held) == self._partitions:
            return ()
        self._probe_at = now + self._settings.heartbeat_s
        while self._probe_next in held:
            self._probe_next = (self._probe_next + 1) % self._partitions
        chosen = self._probe_next
        self._probe_next = (chosen + 1) % self._partitions
        return (chosen,)

    async def _announce_if_due(self) -> None:
        now = self._clock.monotonic()
        if self._announced != self.held or now - self._announced_at >= self._settings.heartbeat_s:
            await self._announce()

    async def _announce(self) -> None:
        held = self.held
        await self._ports.membership.announce(
            WorkerRow(worker_id=self._worker_id, partitions=held, stopping=self._stopping)
        )
        self._announced = held
        self._announced_at = self._clock.monotonic()

    async def _withdraw(self) -> None:
        await self._ports.membership.withdraw(self._worker_id)

    async def _tell(self, say: Callable[[], Awaitable[None]]) -> None:
        """Say something to the others that they also find out by themselves."""
        try:
            await say()
        except TaskHubError as error:
            _log.warning("the other workers could not be told: %s", error)

    # ------------------------------------------------------------------ tenures

    async def _accept(self, partitions: Sequence[int]) -> None:
        accepting = [asyncio.create_task(self._accept_one(partition)) for partition in partitions]
        await asyncio.gather(*accepting)

    async def _accept_one(self, partition: int) -> None:
        try:
            session = await self._ports.orchestrations.accept(partition)
        except TaskHubError as error:
            _log.warning("partition %d cannot be accepted now: %s", partition, error)
            return
        if session is None:
            return
        if self._stopping or partition in self._tenures:
            await session.close()
            return
        owner = self._open_owner(session)
        task = asyncio.create_task(owner.run())
        self._tenures[partition] = _Tenure(owner, task, self._clock.monotonic())
        self._empty.clear()
        task.add_done_callback(lambda ended: self._ended(partition, ended))

    def _release(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            tenure = self._tenures[partition]
            if tenure.releasing is None:
                tenure.releasing = asyncio.create_task(tenure.owner.release())

    def _abandon(self) -> None:
        for tenure in self._tenures.values():
            tenure.owner.abandon()

    def _ended(self, partition: int, task: asyncio.Task[None]) -> None:
        """Remove a tenure that is over; one that ended soon and by itself is not tried again at once."""
        tenure = self._tenures.pop(partition)
        if not task.cancelled() and task.exception() is not None:
            _log.error("the owner of partition %d failed", partition, exc_info=task.exception())
        now = self._clock.monotonic()
        if tenure.releasing is not None:
            self._not_before[partition] = now + self._settings.balance_s
            self._failures.pop(partition, None)
        elif now - tenure.began >= self._settings.lock_s:
            self._failures.pop(partition, None)
            self._not_before.pop(partition, None)
        else:
            failures = self._failures.get(partition, 0)
            self._failures[partition] = failures + 1
            pause_s = min(self._settings.balance_s * 2 ** min(failures, 10), self._settings.send_retry_s_max)
            self._not_before[partition] = now + pause_s
        if not self._tenures:
            self._empty.set()
        self._changed.set()

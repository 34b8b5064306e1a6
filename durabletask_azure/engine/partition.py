"""The owner of one partition: receives, runs turns, commits, sends and completes, until released or lost.

It executes what ``core`` decides and keeps the rules of DESIGN 3: the fence is taken before anything is read; a new
owner sends what was left unsent before anything new; receiving never waits for sending; commits stay in order while the
next batch is already being run; whatever could not be committed is dropped from memory and handled again.
``committing.py`` executes plans, ``recovery.py`` does what is left over from before, ``inbox.py`` holds what is to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from durabletask_azure.core.partitioning import partition_name
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.engine.cache import WarmCache
from durabletask_azure.engine.chain import CommitChain
from durabletask_azure.engine.committing import Committer
from durabletask_azure.engine.counters import Counters
from durabletask_azure.engine.inbox import Inbox
from durabletask_azure.engine.loader import Loader
from durabletask_azure.engine.quiet import Quiet
from durabletask_azure.engine.recovery import Recovery
from durabletask_azure.engine.retention import keep_retention
from durabletask_azure.engine.retrying import RETRIED, patiently
from durabletask_azure.engine.running import Runner
from durabletask_azure.engine.sender import Sender
from durabletask_azure.engine.work import Work
from durabletask_azure.errors import PartitionLostError
from durabletask_azure.ports import Delivery, HubPorts, PartitionSession
from durabletask_azure.settings import Settings

__all__ = ["PartitionOwner"]

_log = logging.getLogger("durabletask_azure.engine.partition")
_RECEIVE_WAIT_S = 1.0
_NOTHING: Mapping[str, str] = MappingProxyType({})


class PartitionOwner:
    """One tenure of one partition in this worker."""

    def __init__(
        self,
        session: PartitionSession,
        ports: HubPorts,
        registry: Registry,
        settings: Settings,
        options: RuntimeOptions,
        *,
        owner_id: str,
        warm: WarmCache,
        counters: Counters,
        quiet: Quiet,
    ) -> None:
        self.partition = session.partition
        self.name = partition_name(session.partition)
        self.session = session
        self.ports = ports
        self.registry = registry
        self.settings = settings
        self.options = options
        self.warm = warm
        self.counters = counters
        self.quiet = quiet
        self.inbox = Inbox()
        self.confirmed: dict[int, int] = {}
        self.busy_since: float | None = None
        """When the step under way (a load, a commit) began, by the monotonic clock: the watchdog's evidence."""
        self._alive = True
        self._beat = (ports.clock.monotonic(), ports.clock.now())
        self._releasing = False
        self._failure: BaseException | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = asyncio.Event()
        self._receiver: asyncio.Task[None] | None = None
        self._retaking = False
        self.chain = CommitChain(
            ports.store,
            ports.clock,
            settings,
            counters,
            partition=self.partition,
            owner_id=owner_id,
            keep_going=self.is_alive,
        )
        self.loader = Loader(ports, settings, counters, partition=self.partition, keep_going=self.is_alive)
        self.committer = Committer(self)
        self.recovery = Recovery(self)
        self._runner = Runner(self)
        self.sender = Sender(ports, settings, counters, self.is_alive, self.spawn, self.recovery.unsent_of)

    def is_alive(self) -> bool:
        """Whether this owner may still act on its partition.

        A process that stood still for very long may not: seen ids and tombstones that would absorb what it is about to
        send may be gone by now (DESIGN 3).
        """
        if self._alive and self._stood_still():
            _log.error("%s: this process stood still for too long: the partition is dropped", self.name)
            self._alive = False
        return self._alive

    def _stood_still(self) -> bool:
        clock = self.ports.clock
        still = max(clock.monotonic() - self._beat[0], (clock.now() - self._beat[1]).total_seconds())
        return still > self.settings.stall_drop_s

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` beside the turns; its failure ends the tenure."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._spawned_ended)
        return task

    async def run(self) -> None:
        """Take the partition over and work on it until released, abandoned or lost; then give the session back."""
        try:
            before = await self.chain.take_over()
            self.counters.partitions_taken += 1
            self.warm.drop_partition(self.partition)
            self.committer.begin(before)
            await self.recovery.resume(before)
            self._receiver = self.spawn(self._receive())
            self.spawn(self._renew())
            self.spawn(self.recovery.keep_sweeping())
            self.spawn(keep_retention(self))
            await self._turns()
            if self._releasing and self._alive:
                await self._hand_over()
        except (PartitionLostError, *RETRIED) as error:  # the latter while the session was taken again
            self.counters.partitions_lost += 1
            _log.warning("%s is lost: %s", self.name, error)
        except Exception:
            _log.exception(
                "%s: the partition's loop failed; it is dropped and will be taken up again", self.name
            )
        finally:
            self._alive = False
            await self._end()

    async def release(self) -> None:
        """Stop receiving, finish what was begun, send it, note that in the lock row, and give the session back."""
        self._releasing = True
        self.inbox.wake()
        await self._stopped.wait()

    def abandon(self) -> None:
        """Stop at once, without sending or writing anything more."""
        self._alive = False
        self.inbox.wake()
        self.committer.wake()
        self.sender.stop()
        for task in self._tasks:
            if task is not self._receiver:  # a receive is never cancelled: closing the session ends it
                task.cancel()

    # ------------------------------------------------------------------ the loop

    async def _turns(self) -> None:
        while self._alive and (not self._releasing or self.inbox.has_messages):
            if not len(self.inbox):
                await self.inbox.wait()
                continue
            await self.committer.room()
            if self._alive:
                await self.quiet.around(self, self._one_batch, self.committer.end_attempt)
        if self._failure is not None:
            raise self._failure

    async def _one_batch(self) -> None:
        await self.committer.settle_failures()
        items = await self.recovery.careful(self.inbox.take(self.settings.receive_messages_max))
        epoch = self.committer.epoch
        work = Work(n=self.committer.next_n(), epoch=epoch)
        self.busy_since = self.ports.clock.monotonic()
        by_instance = await self._runner.run(items, work)
        self.busy_since = None
        if self.committer.epoch != epoch or not self._alive:
            self.committer.give_back([item for own in by_instance.values() for item in own], work.pinned)
            return
        self.committer.submit(work)

    # ------------------------------------------------------------------ beside the loop

    async def _receive(self) -> None:
        while self._alive and not self._releasing:
            if len(self.inbox) > self.settings.receive_messages_max or self.committer.is_full():
                await self.committer.moved()
                continue
            if self.recovery.wants_session:
                if len(self.inbox) or not self.committer.is_idle:
                    await self.committer.moved()
                    continue
                await self._take_session_again()
            deliveries = await patiently(
                self.ports.clock,
                self.settings,
                f"receiving from {self.name}",
                lambda: self.session.receive(self.settings.receive_messages_max, _RECEIVE_WAIT_S),
                keep_going=self.is_alive,
            )
            if deliveries:
                await self._take_in(deliveries)

    async def _take_session_again(self) -> None:
        """Let go of the session and take it again: a message the SDK swallowed is delivered only then (F36)."""
        self.recovery.wants_session = False
        self._retaking = True
        await self.session.close()
        session = await self.ports.orchestrations.accept(self.partition)
        if session is None:
            raise PartitionLostError("another worker took the session while it was let go of")
        self.session = session
        self._retaking = False

    async def _take_in(self, deliveries: Sequence[Delivery]) -> None:
        self.counters.messages_received += len(deliveries)
        fresh: list[Delivery] = []
        may_be_settled = self.committer.has_settled
        for delivery in deliveries:
            if delivery.delivery_count > 1:
                self.counters.redeliveries += 1
            if delivery.error is not None or not delivery.messages:
                await self.recovery.dead_letter(
                    delivery, "undecodable", delivery.error or "no messages in it"
                )
            elif may_be_settled and self.committer.is_settled(delivery):
                self.committer.complete([delivery])
            else:
                fresh.append(delivery)
            for message in delivery.messages:
                if message.sender is not None:
                    # with shared transactions a message exists only once its commit does: it is as good as reported
                    sent = message.sender_sent if self.ports.atomic is None else message.sender.commit
                    known = self.confirmed.get(message.sender.partition, 0)
                    self.confirmed[message.sender.partition] = max(known, sent)
        self.inbox.add(fresh)

    async def _renew(self) -> None:
        """Extend the session's lock while the loop makes progress; give up a loop that does not (F37)."""
        clock = self.ports.clock
        wedged_s = self.settings.lock_s * 2
        while self._alive:
            await clock.sleep(self.settings.lock_s / 3)
            if not self.is_alive():
                return
            self._beat = (clock.monotonic(), clock.now())
            since = self.busy_since if self.busy_since is not None else self.committer.busy_since
            if since is not None and clock.monotonic() - since > wedged_s:
                raise PartitionLostError(f"no progress for {wedged_s:.0f} s")
            if not self._retaking:  # it is locked anew just now
                what = f"renewing {self.name}"
                await patiently(clock, self.settings, what, self.session.renew, keep_going=self.is_alive)

    async def _hand_over(self) -> None:
        await self.committer.drain()
        await self.sender.flush()
        await self.committer.flush_completions()
        await self.committer.write_idle()
        await self.committer.note_order()

    async def _end(self) -> None:
        self.sender.stop()
        self.committer.stop()
        tasks = [task for task in self._tasks if not task.done()]
        # the session is closed first: that ends a pending receive, which must not be cancelled
        await self._close()
        if self._retaking and self._receiver is not None:  # whoever is given a session has to close it
            await asyncio.wait({self._receiver})
            await self._close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.warm.drop_partition(self.partition)
        self._stopped.set()

    async def _close(self) -> None:
        try:
            await self.session.close()
        except Exception:
            _log.warning("%s: closing the session failed", self.name, exc_info=True)

    def _spawned_ended(self, task: asyncio.Task[None]) -> None:
        if task in self._tasks:
            self._tasks.remove(task)
        if task.cancelled() or task.exception() is None:
            return
        self._failure = self._failure or task.exception()
        self._alive = False
        self.inbox.wake()
        self.committer.wake()

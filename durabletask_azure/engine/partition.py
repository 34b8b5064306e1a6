"""The owner of one partition: receives, runs turns, commits, sends and completes, until released or lost.

It executes what ``core`` decides and keeps the rules of DESIGN 3: the fence is taken before anything is read; a new
owner sends what was left unsent before anything new; receiving never waits for sending; commits stay in order while the
next batch is already being run; whatever could not be committed is dropped from memory and handled again.
``committing.py`` executes plans, ``recovery.py`` does what is left over from before, ``inbox.py`` holds what is to do.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from durabletask_azure.core.failures import FailureDetails, describe_failure
from durabletask_azure.core.instance import Instance
from durabletask_azure.core.messages import Inbound, ResetInstance
from durabletask_azure.core.partitioning import partition_name
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.core.turn import Turn, TurnContext, overdue_timers, run_turn
from durabletask_azure.engine.cache import WarmCache
from durabletask_azure.engine.chain import CommitChain
from durabletask_azure.engine.committing import Committer
from durabletask_azure.engine.counters import Counters
from durabletask_azure.engine.inbox import Inbox, Item, need_history
from durabletask_azure.engine.loader import Loader, UnreadableRowError, needed_refs
from durabletask_azure.engine.quiet import Quiet
from durabletask_azure.engine.recovery import Recovery
from durabletask_azure.engine.retention import keep_retention
from durabletask_azure.engine.retrying import RETRIED, patiently
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
        by_instance: dict[str, list[Item]] = {}
        is_nudged = False
        for item in items:
            own = by_instance.get(item.instance_id)
            if own is None:
                by_instance[item.instance_id] = [item]
            else:
                own.append(item)
            is_nudged = is_nudged or item.inbound is None
        self.busy_since = self.ports.clock.monotonic()
        server_now = await self._server_time() if is_nudged else None
        instances = await self._load(by_instance, work)
        context: TurnContext | None = None
        for instance, own in instances:
            first = own[0].inbound
            if first is not None and len(own) == 1:
                inbound = [first]
                now = server_now or first.enqueued_at
            else:
                inbound = [item.inbound for item in own if item.inbound is not None]
                now = server_now or max(one.enqueued_at for one in inbound)
            if len(inbound) < len(own) and not instance.is_terminal:
                inbound += overdue_timers(instance, now, self.settings.timer_grace_s)
            loaded: Mapping[str, str] = _NOTHING
            broken: FailureDetails | None = None
            refs = needed_refs(instance, inbound)
            if refs:
                loaded, broken = await self.loader.values(instance, refs)
            if self.quiet.holder is not None:
                await self.quiet.wait(self)
            if self.committer.epoch != epoch:
                break
            if context is None or refs or context.server_now is not now:
                context = self._context(work, now)
            try:
                failure = broken or self.recovery.poisoned(own)
                turn = self._run(instance, inbound, loaded, context, failure)
            except KeyboardInterrupt as error:
                if threading.current_thread() is threading.main_thread():
                    raise
                await self._interrupted(instance, own, work, error)
                del by_instance[instance.instance_id]  # given back already
                continue
            if turn.uploads:
                self.loader.unstored.update(turn.uploads)
            work.turns.append((turn, own))
        self.busy_since = None
        if self.committer.epoch != epoch or not self._alive:
            self.committer.give_back([item for own in by_instance.values() for item in own], work.pinned)
            return
        self.committer.submit(work)

    async def _interrupted(
        self, instance: Instance, own: list[Item], work: Work, error: KeyboardInterrupt
    ) -> None:
        """Fail an instance whose orchestrator raised what ends a process: no signal arrives on this thread."""
        work.pinned.remove(instance)
        await self.committer.drain()
        self.committer.give_back(own, [instance])
        failure = describe_failure(error, text_bytes_max=self.settings.failure_text_bytes_max)
        self.recovery.condemn(instance.instance_id, self.options.codecs.encode_failure(failure))

    async def _load(
        self, by_instance: dict[str, list[Item]], work: Work
    ) -> list[tuple[Instance, list[Item]]]:
        warm = self.warm.find(self.partition, by_instance)
        if any(instance is not None and not instance.is_cacheable for instance in warm.values()):
            # ended or purged by a commit still under way: once that is done, only storage knows what is there
            await self.committer.drain()
            warm = self.warm.find(self.partition, by_instance)
        warm = await self._forget(by_instance, warm)
        work.pinned += [instance for instance in warm.values() if instance is not None]
        self.warm.pin(self.partition, work.pinned)
        missing = [name for name, instance in warm.items() if instance is None]
        if missing:
            whole = {name for name in missing if need_history(by_instance[name])}
            results = await self.loader.instances(missing, whole)
            for name, result in zip(missing, results, strict=True):
                if isinstance(result, UnreadableRowError):
                    await self.recovery.put_aside(by_instance.pop(name), str(result))
                elif isinstance(result, BaseException):
                    raise result
                else:
                    self.warm.pin(self.partition, (result,))
                    work.pinned.append(result)
                    warm[name] = result
        return [(instance, by_instance[name]) for name, instance in warm.items() if instance is not None]

    async def _forget(
        self, by_instance: dict[str, list[Item]], warm: dict[str, Instance | None]
    ) -> dict[str, Instance | None]:
        """Leave out of ``warm`` what is to be taken up again from its history: that is in storage only."""
        names = [
            name
            for name, own in by_instance.items()
            if warm[name] is not None
            for one in own
            if one.inbound is not None and type(one.inbound.message.body) is ResetInstance
        ]
        if not names:
            return warm
        await self.committer.drain()
        for name in names:
            self.warm.drop(self.partition, name)
        return self.warm.find(self.partition, by_instance)

    def _run(
        self,
        instance: Instance,
        inbound: Sequence[Inbound],
        loaded: Mapping[str, str],
        context: TurnContext,
        broken: FailureDetails | None,
    ) -> Turn:
        monotonic, counters = self.ports.clock.monotonic, self.counters
        begun = monotonic()
        replay = 0 if instance.cold is None or instance.execution is not None else len(instance.cold)
        turn = run_turn(instance, inbound, loaded, context, broken=broken)
        took = monotonic() - begun
        counters.turns += 1
        counters.events += turn.events
        if replay and instance.execution is not None:
            counters.replayed_events += replay
        for note in turn.notes:
            self.counters.messages_dropped += 1
            _log.info("%s: %s", self.name, note)
        if took > self.settings.turn_warning_s:
            self.counters.slow_turns += 1
            _log.warning(
                "instance %r held up its worker for %.2f s without awaiting: orchestrators must not block",
                instance.instance_id,
                took,
            )
        return turn

    def _context(self, work: Work, now: datetime) -> TurnContext:
        return TurnContext(
            partition=self.partition,
            partitions=self.ports.info.partitions,
            n=work.n,
            sent=self.committer.sent(),
            server_now=now,
            settings=self.settings,
            registry=self.registry,
            options=self.options,
            confirmed=self.confirmed,
        )

    async def _server_time(self) -> datetime:
        return await patiently(
            self.ports.clock,
            self.settings,
            "asking the store's time",
            self.ports.store.server_time,
            keep_going=self.is_alive,
        )

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

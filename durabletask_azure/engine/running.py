"""Runs a batch: the messages of one receive become the turns of their instances.

Instances that are not warm are loaded first. The usual turn is run at once; all else may have to wait: for spilled
values, or for quiet around another partition's suspicious turn.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from durabletask_azure.core.failures import FailureDetails, describe_failure
from durabletask_azure.core.instance import Instance
from durabletask_azure.core.messages import Inbound, ResetInstance
from durabletask_azure.core.turn import Turn, TurnContext, overdue_timers, run_step, run_turn
from durabletask_azure.engine.inbox import Item, need_history
from durabletask_azure.engine.loader import UnreadableRowError, needed_refs
from durabletask_azure.engine.retrying import patiently
from durabletask_azure.engine.work import Work

if TYPE_CHECKING:
    from durabletask_azure.engine.partition import PartitionOwner

__all__ = ["Runner"]

_log = logging.getLogger("durabletask_azure.engine.running")
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Runner:
    """The turns of one partition owner."""

    def __init__(self, owner: PartitionOwner) -> None:
        self._owner = owner

    async def run(self, items: Sequence[Item], work: Work) -> Mapping[str, list[Item]]:
        """Run the turns that items make, and add them to ``work``; return the items by instance.

        If something fails meanwhile that was run before, the rest is left out: the owner's epoch is another one then.
        """
        by_instance: dict[str, list[Item]] = {}
        is_nudged = is_reset = False
        for item in items:
            own = by_instance.get(item.instance_id)
            if own is None:
                by_instance[item.instance_id] = [item]
            else:
                own.append(item)
            if item.inbound is None:
                is_nudged = True
            elif type(item.inbound.message.body) is ResetInstance:
                is_reset = True
        server_now = await self._server_time() if is_nudged else None
        instances = await self._load(by_instance, work, is_reset=is_reset)
        await self._run_all(by_instance, instances, server_now, work)
        return by_instance

    async def _run_all(
        self,
        by_instance: Mapping[str, list[Item]],
        instances: Mapping[str, Instance | None],
        server_now: datetime | None,
        work: Work,
    ) -> None:
        """Run the turns of a batch, as far as nothing fails meanwhile that was run before."""
        owner, monotonic = self._owner, self._owner.ports.clock.monotonic
        turns, handled = work.turns, work.handled
        context: TurnContext | None = None
        is_plain = True
        events = 0
        is_free, begun = self._is_free(), monotonic()
        if owner.committer.epoch != work.epoch:
            return
        for name, own in by_instance.items():
            instance = instances[name]
            assert instance is not None
            turn: Turn | None = None
            first = own[0].inbound
            try:
                if is_free and first is not None and len(own) == 1:
                    now = server_now or first.enqueued_at
                    if context is None or now < context.server_now:  # an earlier time changes nothing
                        context = self._context(work, now)
                    turn = run_step(instance, first, context)
                if turn is not None:
                    ended = monotonic()
                    if ended - begun > owner.settings.turn_warning_s:
                        self._warn_of(instance, ended - begun)
                    begun = ended
                else:
                    turn = await self._run_unusual(instance, own, server_now, work, context)
                    is_free, begun = self._is_free(), monotonic()
                    if turn is None:
                        break
            except KeyboardInterrupt as error:
                if threading.current_thread() is threading.main_thread():
                    raise
                await self._interrupted(instance, own, work, error)
                if owner.committer.epoch != work.epoch:
                    break
                is_free, begun = self._is_free(), monotonic()
                continue
            events += turn.events
            is_plain = is_plain and turn.is_plain
            turns.append(turn)
            handled.append(own)
        owner.counters.turns += len(turns)
        owner.counters.events += events
        work.is_plain = is_plain and bool(turns)

    def _is_free(self) -> bool:
        """Whether usual turns may be run at once: nobody waits for quiet, and no instance is to be failed instead."""
        return self._owner.quiet.holder is None and not self._owner.recovery.has_condemned

    async def _run_unusual(
        self,
        instance: Instance,
        own: Sequence[Item],
        server_now: datetime | None,
        work: Work,
        context: TurnContext | None,
    ) -> Turn | None:
        """Run any turn once what it needs is here; return ``None`` if something failed meanwhile."""
        owner = self._owner
        inbound = [item.inbound for item in own if item.inbound is not None]
        now = server_now or max(one.enqueued_at for one in inbound)
        if len(inbound) < len(own) and not instance.is_terminal:
            inbound += overdue_timers(instance, now, owner.settings.timer_grace_s)
        loaded: Mapping[str, str] = _NOTHING
        broken: FailureDetails | None = None
        refs = needed_refs(instance, inbound)
        if refs:
            loaded, broken = await owner.loader.values(instance, refs)
        if owner.quiet.holder is not None:
            await owner.quiet.wait(owner)
        if owner.committer.epoch != work.epoch:
            return None
        if context is None or refs or context.server_now is not now:
            context = self._context(work, now)
        failure = broken or owner.recovery.poisoned(own)
        turn = self._run(instance, inbound, loaded, context, failure)
        if turn.uploads:
            owner.loader.unstored.update(turn.uploads)
        return turn

    async def _interrupted(
        self, instance: Instance, own: list[Item], work: Work, error: KeyboardInterrupt
    ) -> None:
        """Fail an instance whose orchestrator raised what ends a process: no signal arrives on this thread."""
        work.pinned.remove(instance)
        await self._owner.committer.drain()
        self._owner.committer.give_back(own, [instance])
        own.clear()  # none of this batch any more
        failure = describe_failure(error, text_bytes_max=self._owner.settings.failure_text_bytes_max)
        self._owner.recovery.condemn(instance.instance_id, self._owner.options.codecs.encode_failure(failure))

    async def _load(
        self, by_instance: dict[str, list[Item]], work: Work, *, is_reset: bool
    ) -> Mapping[str, Instance | None]:
        """Return the instances of a batch, pinned; what is for one that cannot be read is put aside."""
        warm, is_leaving = self._owner.warm.find(self._owner.partition, by_instance)
        if is_leaving:
            # ended or purged by a commit still under way: once that is done, only storage knows what is there
            await self._owner.committer.drain()
            warm, _ = self._owner.warm.find(self._owner.partition, by_instance)
        if is_reset:
            warm = await self._forget(by_instance, warm)
        for instance in warm.values():
            if instance is not None:
                instance.pins += 1
                work.pinned.append(instance)
        if len(work.pinned) < len(warm):
            await self._load_missing(by_instance, warm, work)
        return warm

    async def _load_missing(
        self, by_instance: dict[str, list[Item]], warm: dict[str, Instance | None], work: Work
    ) -> None:
        missing = [name for name, instance in warm.items() if instance is None]
        whole = {name for name in missing if need_history(by_instance[name])}
        results = await self._owner.loader.instances(missing, whole)
        for name, result in zip(missing, results, strict=True):
            if isinstance(result, UnreadableRowError):
                await self._owner.recovery.put_aside(by_instance.pop(name), str(result))
            elif isinstance(result, BaseException):
                raise result
            else:
                self._owner.warm.add(self._owner.partition, result)
                result.pins += 1
                work.pinned.append(result)
                warm[name] = result

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
        await self._owner.committer.drain()
        for name in names:
            self._owner.warm.drop(self._owner.partition, name)
        return self._owner.warm.find(self._owner.partition, by_instance)[0]

    def _run(
        self,
        instance: Instance,
        inbound: Sequence[Inbound],
        loaded: Mapping[str, str],
        context: TurnContext,
        broken: FailureDetails | None,
    ) -> Turn:
        owner = self._owner
        begun = owner.ports.clock.monotonic()
        replay = 0 if instance.cold is None or instance.execution is not None else len(instance.cold)
        turn = run_turn(instance, inbound, loaded, context, broken=broken)
        took = owner.ports.clock.monotonic() - begun
        if replay and instance.execution is not None:
            owner.counters.replayed_events += replay
        for note in turn.notes:
            owner.counters.messages_dropped += 1
            _log.info("%s: %s", owner.name, note)
        if took > owner.settings.turn_warning_s:
            self._warn_of(instance, took)
        return turn

    def _warn_of(self, instance: Instance, took_s: float) -> None:
        self._owner.counters.slow_turns += 1
        _log.warning(
            "instance %r held up its worker for %.2f s without awaiting: orchestrators must not block",
            instance.instance_id,
            took_s,
        )

    def _context(self, work: Work, now: datetime) -> TurnContext:
        return TurnContext(
            partition=self._owner.partition,
            partitions=self._owner.ports.info.partitions,
            n=work.n,
            sent=self._owner.committer.sent(),
            server_now=now,
            settings=self._owner.settings,
            registry=self._owner.registry,
            options=self._owner.options,
            confirmed=self._owner.confirmed,
        )

    async def _server_time(self) -> datetime:
        return await patiently(
            self._owner.ports.clock,
            self._owner.settings,
            "asking the store's time",
            self._owner.ports.store.server_time,
            keep_going=self._owner.is_alive,
        )

"""Sends again what a lost queue took with it (F35): a queue recreated, an emulator restarted, a namespace failed over.

For every living instance: its open activity tasks, its open timers, its start if it is pending, and, for children it
waits for, the start of a missing one and the answer of an ended one. All under new message ids, since the old ones may
still be in a duplicate window. Safe beside running workers: the state machine ignores what it has already; activities
may run once more. Events raised by clients or other instances and lost with the queue cannot be known and stay lost.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from durabletask_azure.core.history import (
    ExecutionCompletedEvent,
    HistoryEvent,
    RuntimeStatus,
    SubOrchestrationInstanceCreatedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
    decode_events,
)
from durabletask_azure.core.messages import Outbound, StartInstance, ToActivities, ToPartition
from durabletask_azure.core.outbox import Origin, messages_for, to_instance
from durabletask_azure.core.partitioning import partition_of, stable_id
from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.core.state import ExecutionState, fold
from durabletask_azure.engine.retrying import patiently
from durabletask_azure.errors import HubUnavailableError
from durabletask_azure.ports import HubPorts, InstanceFilter, InstancePage
from durabletask_azure.settings import Settings

__all__ = ["Repaired", "repair"]

_LIVING = (RuntimeStatus.PENDING, RuntimeStatus.RUNNING, RuntimeStatus.SUSPENDED)
_READS_MAX = 3
_SEND_MAX = 100
_log = logging.getLogger("durabletask_azure.engine.repair")


class Repaired(msgspec.Struct, kw_only=True):
    """How many instances were looked at, and how much was sent again for them."""

    instances: int = 0
    activities: int = 0
    timers: int = 0
    starts: int = 0
    children: int = 0
    unreadable: int = 0


async def repair(ports: HubPorts, settings: Settings) -> Repaired:
    """Send again whatever the living instances of the whole hub wait for; return the counts.

    Raises:
        ThrottledError, HubUnavailableError, QueueFullError: never; these are waited out.
    """
    stamp = (await ports.store.server_time()).isoformat()
    repairer = _Repairer(ports, settings, stamp)
    for partition in range(ports.info.partitions):
        async for row in repairer.living(partition):
            await repairer.instance(partition, row)
    return repairer.repaired


class _Repairer:
    def __init__(self, ports: HubPorts, settings: Settings, stamp: str) -> None:
        self.repaired = Repaired()
        self._ports = ports
        self._settings = settings
        self._stamp = stamp

    async def living(self, partition: int) -> AsyncIterator[InstanceRow]:
        where = InstanceFilter(statuses=_LIVING)
        token: str | None = None

        async def page_at_token() -> InstancePage:
            return await self._ports.store.query(
                partition, where, count_max=self._settings.page_size_max, token=token
            )

        while True:
            page = await patiently(self._ports.clock, self._settings, "repair: listing", page_at_token)
            for row in page.rows:
                yield row
            for name in page.unreadable:
                self.repaired.unreadable += 1
                _log.error("instance %r cannot be read and is not repaired", name)
            token = page.token
            if token is None:
                return

    async def instance(self, partition: int, listed: InstanceRow) -> None:
        self.repaired.instances += 1
        try:
            read = await self._read(partition, listed.instance_id)
        except (HubUnavailableError, msgspec.DecodeError) as error:
            self.repaired.unreadable += 1
            _log.error("instance %r cannot be read and is not repaired: %s", listed.instance_id, error)
            return
        if read is None or read[0].status.is_terminal:
            return
        row, events = read
        state = fold(events)
        outbound: list[Outbound] = []
        if state.started is None or row.ready:
            self.repaired.starts += 1
            outbound.append(self._start(row))
        if state.started is not None and state.completed is None:
            outbound += await self._open(partition, row, events, state)
        await self._send([self._renamed(out) for out in outbound])

    def _start(self, row: InstanceRow) -> ToPartition:
        return to_instance(
            row.instance_id,
            StartInstance(),
            message_id=stable_id(row.execution_id, "start"),
            partitions=self._ports.info.partitions,
            execution_id=row.execution_id,
            deliver_at=None if row.ready else row.scheduled_start,
        )

    async def _open(
        self, partition: int, row: InstanceRow, events: Sequence[HistoryEvent], state: ExecutionState
    ) -> list[Outbound]:
        """Return the messages behind everything the instance waits for."""
        sources = state.started.sources if state.started is not None else ()
        origin = self._origin(partition, row, sources)
        outbound: list[Outbound] = []
        for event in events:
            match event:
                case TaskScheduledEvent() if event.event_id in state.tasks:
                    self.repaired.activities += 1
                    outbound.extend(messages_for(event, origin))
                case TimerCreatedEvent() if event.event_id in state.timers:
                    self.repaired.timers += 1
                    outbound.extend(messages_for(event, origin))
                case SubOrchestrationInstanceCreatedEvent() if event.event_id in state.tasks:
                    lost = await self._child(event, origin)
                    self.repaired.children += len(lost)
                    outbound.extend(lost)
                case _:
                    pass
        return outbound

    async def _child(self, event: SubOrchestrationInstanceCreatedEvent, origin: Origin) -> list[Outbound]:
        """Return the start of a child that is not there, or the answer of one that has ended."""
        home = partition_of(event.instance_id, origin.partitions)
        read = await self._read(home, event.instance_id)
        if read is None:
            buried = await self._ports.store.read_tombstone(home, event.instance_id)
            return [] if buried is not None else list(messages_for(event, origin))
        row, events = read
        parent = row.parent
        if parent is None or (parent.execution_id, parent.task_id) != (origin.execution_id, event.event_id):
            # The id belongs to somebody else: the start is refused, or waits its turn, at its owner.
            return list(messages_for(event, origin))
        answers: list[Outbound] = []
        for ended in events:
            if isinstance(ended, ExecutionCompletedEvent):
                # The answer is meant for one execution; what a recursive terminate sends to children is not.
                messages = messages_for(ended, self._origin(home, row))
                answers += [
                    out for out in messages if isinstance(out, ToPartition) and out.message.execution_id
                ]
        return answers

    def _origin(self, partition: int, row: InstanceRow, sources: tuple[str, ...] = ()) -> Origin:
        return Origin(
            instance_id=row.instance_id,
            execution_id=row.execution_id,
            name=row.name,
            parent=row.parent,
            partition=partition,
            partitions=self._ports.info.partitions,
            parent_trace_context=row.parent_trace_context,
            sources=sources,
        )

    def _renamed(self, out: Outbound) -> Outbound:
        """Return the message under an id of this repair."""
        match out:
            case ToActivities(task=task):
                new_id = stable_id(task.id, "repair", self._stamp)
                return msgspec.structs.replace(out, task=msgspec.structs.replace(task, id=new_id))
            case ToPartition(message=message):
                new_id = stable_id(message.id, "repair", self._stamp)
                return msgspec.structs.replace(out, message=msgspec.structs.replace(message, id=new_id))

    async def _read(self, partition: int, instance_id: str) -> tuple[InstanceRow, list[HistoryEvent]] | None:
        """Return an instance and the whole history of its execution; read again if it changes meanwhile."""
        store = self._ports.store
        for left in range(_READS_MAX - 1, -1, -1):
            stored = await patiently(
                self._ports.clock,
                self._settings,
                "repair",
                lambda: store.read_instance(partition, instance_id),
            )
            if stored is None:
                return None
            row = stored.row
            try:
                older = b""
                if row.segments:
                    older = await store.read_segments(partition, instance_id, row.execution_id, row.segments)
            except HubUnavailableError:
                if not left:
                    raise
                await self._ports.clock.sleep(self._settings.balance_s)
                continue
            return row, decode_events(older) + decode_events(row.tail)
        raise AssertionError("unreachable: the last read returns or raises")

    async def _send(self, outbound: Sequence[Outbound]) -> None:
        tasks = [out for out in outbound if isinstance(out, ToActivities)]
        by_partition: dict[int, list[ToPartition]] = {}
        for out in outbound:
            if isinstance(out, ToPartition):
                by_partition.setdefault(out.partition, []).append(out)
        for begin in range(0, len(tasks), _SEND_MAX):
            part = tasks[begin : begin + _SEND_MAX]
            await self._patiently(lambda part=part: self._ports.activities.send(part))
        for messages in by_partition.values():
            for begin in range(0, len(messages), _SEND_MAX):
                some = messages[begin : begin + _SEND_MAX]
                await self._patiently(lambda some=some: self._ports.orchestrations.send(some))

    async def _patiently(self, call: Callable[[], Awaitable[None]]) -> None:
        await patiently(self._ports.clock, self._settings, "repair: sending", call)

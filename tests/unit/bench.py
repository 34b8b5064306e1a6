"""A partition on a workbench: runs turns, keeps what they write, and checks after each what must always hold.

Every turn is run twice, on the warm instance and on one loaded from the stored rows: both must come to the same. Its
plan is then applied, and the stored row must equal the fold of the stored history (invariant V), and what a new owner
would send again must be what the turn sends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

import msgspec

from durabletask_azure.core.commit import Group, plan_groups
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import (
    EventRaisedEvent,
    ExecutionResumedEvent,
    ExecutionStartedEvent,
    ExecutionSuspendedEvent,
    ExecutionTerminatedEvent,
    HistoryEvent,
    Parent,
    Sender,
    SubOrchestrationInstanceCompletedEvent,
    SubOrchestrationInstanceFailedEvent,
    TaskCompletedEvent,
    TaskFailedEvent,
    TimerFiredEvent,
    decode_events,
)
from durabletask_azure.core.instance import Instance, needs_history, pending_row
from durabletask_azure.core.messages import (
    FailInstance,
    Inbound,
    Message,
    MessageBody,
    Outbound,
    PurgeInstance,
    ReplaceInstance,
    StartInstance,
    ToActivities,
    ToPartition,
    decode_messages,
    encode_messages,
)
from durabletask_azure.core.outbox import unsent_messages
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.core.rows import (
    DeleteInstance,
    DeleteOutbox,
    DeleteSegments,
    DeleteTombstone,
    InstanceRow,
    OutboxRow,
    PutInstance,
    PutOutbox,
    PutSegment,
    PutTombstone,
    RowWrite,
    Tombstone,
)
from durabletask_azure.core.state import fold
from durabletask_azure.core.turn import Turn, TurnContext, run_turn
from durabletask_azure.settings import Settings

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def text(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def ids(outbound: Sequence[Outbound]) -> list[str]:
    return [out.task.id if isinstance(out, ToActivities) else out.message.id for out in outbound]


def bodies(outbound: Sequence[Outbound]) -> list[MessageBody]:
    return [out.message.body for out in outbound if isinstance(out, ToPartition)]


def to_partition(outbound: Outbound) -> ToPartition:
    assert isinstance(outbound, ToPartition)
    return outbound


def to_activities(outbound: Outbound) -> ToActivities:
    assert isinstance(outbound, ToActivities)
    return outbound


def came_to(turn: Turn) -> tuple[object, ...]:
    """Return all a turn came to, the instance left out."""
    return (
        turn.row,
        turn.segments,
        turn.main,
        turn.cleanup,
        turn.outbound,
        turn.eventless,
        turn.cancels,
        turn.uploads,
        turn.dropped_payloads,
        turn.notes,
        turn.events,
    )


class Bench:
    """One partition of a hub of one; ``now`` is the time of the next message, ``sent`` the newest confirmed commit."""

    def __init__(
        self, *orchestrators: Callable[..., Any], is_confirming: bool = True, **settings: Any
    ) -> None:
        self.registry = Registry()
        for orchestrator in orchestrators:
            self.registry.add_orchestrator(orchestrator)
        self.settings = Settings(**settings)
        self.options = RuntimeOptions()
        self.is_confirming = is_confirming
        self.now = T0
        self.n = 0
        self.sent = 0
        self.confirmed: dict[int, int] = {}
        self.rows: dict[str, InstanceRow] = {}
        self.segments: dict[tuple[str, str, int], bytes] = {}
        self.tombstones: dict[str, Tombstone] = {}
        self.outbox: dict[tuple[int, int], OutboxRow] = {}
        self.payloads: dict[str, str] = {}
        self.warm: dict[str, Instance] = {}
        self._messages = 0

    # ------------------------------------------------------------ what clients do

    def insert(
        self, name: str, input: Any = None, *, id: str = "i1", execution: str = "x1", **more: Any
    ) -> InstanceRow:
        """Insert a pending row, as a client does."""
        kept = more.pop("kept", ())
        started = self.start_of(name, input, id=id, execution=execution, **more)
        self.rows[id] = pending_row(started, created_at=self.now, kept=kept)
        return self.rows[id]

    def start_of(
        self, name: str, input: Any = None, *, id: str = "i1", execution: str = "x1", **more: Any
    ) -> ExecutionStartedEvent:
        return ExecutionStartedEvent(
            timestamp=self.now, name=name, instance_id=id, execution_id=execution, input=text(input), **more
        )

    def begin(
        self, name: str, input: Any = None, *, id: str = "i1", execution: str = "x1", **more: Any
    ) -> Turn:
        """Insert a pending row and run the turn of its wake-up."""
        self.insert(name, input, id=id, execution=execution, **more)
        return self.turn(self.message(StartInstance(), id=id), id=id)

    def message(
        self,
        body: MessageBody,
        *,
        id: str = "i1",
        message_id: str | None = None,
        execution: str | None = None,
        sender: Sender | None = None,
        parked: int = 0,
    ) -> Message:
        self._messages += 1
        return Message(
            id=message_id or f"m{self._messages}",
            instance_id=id,
            body=body,
            execution_id=execution,
            sender=sender,
            parked=parked,
        )

    def wake_up(self, id: str = "i1", execution: str | None = None) -> Message:
        return self.message(StartInstance(), id=id, execution=execution)

    def raised(
        self, name: str, value: Any = None, *, source: str = "", id: str = "i1", sender: Sender | None = None
    ) -> Message:
        self._messages += 1
        body = EventRaisedEvent(
            timestamp=self.now,
            name=name,
            input=text(value),
            source_id=source or f"s{self._messages}",
            sender=sender,
        )
        return self.message(body, id=id, sender=sender)

    def terminated(
        self, value: Any = None, *, recurse: bool = False, source: str = "t1", id: str = "i1"
    ) -> Message:
        body = ExecutionTerminatedEvent(
            timestamp=self.now, input=text(value), recurse=recurse, source_id=source
        )
        return self.message(body, id=id)

    def suspended(self, source: str = "s") -> Message:
        return self.message(ExecutionSuspendedEvent(timestamp=self.now, source_id=source))

    def resumed(self, source: str = "r") -> Message:
        return self.message(ExecutionResumedEvent(timestamp=self.now, source_id=source))

    def task_done(self, task: int, value: Any = None, *, execution: str | None = "x1") -> Message:
        body = TaskCompletedEvent(timestamp=self.now, task_scheduled_id=task, result=text(value))
        return self.message(body, execution=execution)

    def task_failed(self, task: int) -> Message:
        body = TaskFailedEvent(timestamp=self.now, task_scheduled_id=task, failure=failure())
        return self.message(body, execution="x1")

    def child_done(self, task: int, value: Any = None, *, execution: str | None = "x1") -> Message:
        body = SubOrchestrationInstanceCompletedEvent(
            timestamp=self.now, task_scheduled_id=task, result=text(value)
        )
        return self.message(body, execution=execution)

    def child_failed(self, task: int) -> Message:
        body = SubOrchestrationInstanceFailedEvent(
            timestamp=self.now, task_scheduled_id=task, failure=failure()
        )
        return self.message(body, execution="x1")

    def fired(self, timer: int, fire_at: datetime, *, execution: str | None = "x1") -> Message:
        body = TimerFiredEvent(timestamp=fire_at, timer_id=timer, fire_at=fire_at)
        return self.message(body, execution=execution)

    def purge(self, *, recursive: bool = False, id: str = "i1", execution: str | None = None) -> Message:
        return self.message(PurgeInstance(recursive=recursive), id=id, execution=execution)

    def replace(
        self,
        name: str,
        replace: tuple[str, ...],
        *,
        execution: str = "x2",
        seen: datetime | None = None,
        **more: Any,
    ) -> Message:
        """Make a request to replace the instance that the client has ``seen``, by its birth; ``None``: any."""
        start = self.start_of(name, execution=execution, **more)
        body = ReplaceInstance(start=start, replace=replace, created_at=seen)
        return self.message(body, id=start.instance_id)

    def child_start(
        self,
        name: str,
        *,
        id: str = "i1",
        execution: str = "c1",
        parent: Parent | None,
        sender: Sender | None = None,
    ) -> Message:
        return self.message(
            self.start_of(name, id=id, execution=execution, parent=parent), id=id, sender=sender
        )

    def fail(self, id: str = "i1") -> Message:
        return self.message(FailInstance(failure=failure("poison")), id=id)

    # ------------------------------------------------------------ what the owner does

    def turn(
        self,
        *messages: Message,
        id: str = "i1",
        broken: FailureDetails | None = None,
        at: datetime | None = None,
        is_committed: bool = True,
    ) -> Turn:
        """Run a turn of one instance, warm and cold, check it, and commit it."""
        at = at or self.now
        inbound = [Inbound(message=message, enqueued_at=at) for message in passed_on(messages)]
        context = TurnContext(
            partition=0,
            partitions=1,
            n=self.n + 1,
            sent=self.sent,
            server_now=at,
            settings=self.settings,
            registry=self.registry,
            options=self.options,
            confirmed=self.confirmed,
        )
        warm = self.warm.get(id)
        if warm is None or not warm.is_cacheable:
            warm = self.load(id)
        cold = run_turn(self.load(id), inbound, self.payloads, context, broken=broken)
        turn = run_turn(warm, inbound, self.payloads, context, broken=broken)
        assert came_to(turn) == came_to(cold)
        row = self.rows.get(id)
        if row is not None and row.status.is_terminal and not any(map(needs_history, messages)):
            by_row = run_turn(Instance.ended(row, f"e{row.commit}"), inbound, {}, context, broken=broken)
            assert came_to(turn) == came_to(by_row)
            assert turn.is_empty
            assert turn.notes == by_row.notes
        cold.instance.drop_execution()
        self.warm[id] = warm
        if is_committed and not turn.is_empty:
            self.commit(turn)
        return turn

    def load(self, id: str) -> Instance:
        row = self.rows.get(id)
        if row is None:
            return Instance(id, self.tombstones.get(id))
        return Instance.load(row, f"e{row.commit}", self.lines(id, row.execution_id, row.segments))

    def lines(self, id: str, execution: str, count: int) -> bytes:
        return b"".join(self.segments[id, execution, index] for index in range(count))

    def commit(self, *turns: Turn) -> list[Group]:
        """Apply the plan of turns as the next commit, and check what must hold of every commit."""
        self.n += 1
        groups = plan_groups(
            turns, self.n, rows_max=98, bytes_max=4_000_000, instances_max=50, keep_outbox=True
        )
        for turn in turns:
            self.payloads.update((name, data.decode()) for name, data in turn.uploads.items())
        for group in groups:
            for part in (*group.staged, group.writes(), *group.cleanup):
                for write in part:
                    self.apply(write)
        for turn in turns:
            for prefix in turn.dropped_payloads:
                for name in [name for name in self.payloads if name.startswith(prefix)]:
                    del self.payloads[name]
            self.check(turn)
        if self.is_confirming:
            self.sent = self.n
        return groups

    def apply(self, write: RowWrite) -> None:
        match write:
            case PutInstance(row=row):
                self.rows[row.instance_id] = row
            case DeleteInstance(instance_id=id):
                del self.rows[id]
            case PutSegment():
                self.segments[write.instance_id, write.execution_id, write.index] = write.events
            case DeleteSegments():
                for index in range(write.first, write.first + write.count):
                    self.segments.pop((write.instance_id, write.execution_id, index), None)
            case PutOutbox(row=row):
                assert (row.n, row.index) not in self.outbox
                self.outbox[row.n, row.index] = row
            case DeleteOutbox():
                self.outbox.pop((write.n, write.index), None)
            case PutTombstone(tombstone=tombstone):
                self.tombstones[tombstone.instance_id] = tombstone
            case DeleteTombstone(instance_id=id):
                self.tombstones.pop(id, None)
            case _:
                assert_never(write)

    # ------------------------------------------------------------ what must always hold

    def history(self, id: str = "i1") -> list[HistoryEvent]:
        row = self.rows[id]
        return decode_events(self.lines(id, row.execution_id, row.segments) + row.tail)

    def kinds(self, id: str = "i1") -> list[str]:
        return [type(event).__name__.removesuffix("Event") for event in self.history(id)]

    def check(self, turn: Turn) -> None:
        id = turn.instance.instance_id
        again = self.unsent(id, self.n - 1)
        assert tuple(out for out in again if out in turn.outbound) == turn.outbound
        # a timer that was cancelled as soon as it was made is all that may be sent for nothing
        extra = [out for out in again if out not in turn.outbound]
        assert all(isinstance(body, TimerFiredEvent) for body in bodies(extra))
        assert not [out for out in extra if isinstance(out, ToActivities)]
        if id in self.rows:
            check_row(self.rows[id], self.history(id))

    def unsent(self, id: str, sent: int) -> list[Outbound]:
        """Return what a new owner sends again, as the lock row's ``sent`` has it."""
        row = self.rows.get(id)
        if row is None:
            return []
        outbound: list[Outbound] = []
        for past in row.past:
            if past.commit > sent:
                earlier = Instance(id)
                events = decode_events(self.lines(id, past.execution_id, past.segments))
                earlier.append(events)
                outbound += unsent_messages(events, sent, earlier.state, earlier.origin(0, 1))
        instance = self.load(id)
        if row.commit > sent and instance.state.started is not None:
            outbound += unsent_messages(self.history(id), sent, instance.state, instance.origin(0, 1))
        return outbound


def check_row(row: InstanceRow, events: Sequence[HistoryEvent]) -> None:
    """Check that a stored row equals the fold of its history."""
    state = fold(events)
    assert row.events == state.events == len(events)
    assert all(event.commit <= row.commit for event in events)
    if state.started is None:
        assert row.status == "PENDING"
        assert row.due_at == (row.scheduled_start or row.created_at)
        return
    started, completed = state.started, state.completed
    assert (row.instance_id, row.execution_id) == (started.instance_id, started.execution_id)
    assert (row.name, row.version, row.input) == (started.name, started.version, started.input)
    assert (row.tags, row.parent, row.generation) == (started.tags, started.parent, started.generation)
    assert row.status == state.status
    assert row.output == (completed.result if completed else None)
    assert row.failure == (completed.failure if completed else None)
    assert row.completed_at == (completed.timestamp if completed else None)
    assert row.status.is_terminal == (completed is not None)
    assert row.seen == ()
    if completed is not None:
        assert (row.due_at, row.kept, row.ready, row.reason) == (None, (), False, None)
    elif not row.kept and not row.ready:
        assert row.due_at == state.due_at()


def failure(message: str = "boom") -> FailureDetails:
    return FailureDetails(message=message, error_type="ValueError")


def passed_on(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return messages as they come out of a queue."""
    return decode_messages(encode_messages(tuple(messages)))


def put_back(turn: Turn) -> list[tuple[Message, datetime | None]]:
    """Return the messages a turn put back, and until when."""
    return [(out.message, out.deliver_at) for out in turn.eventless if isinstance(out, ToPartition)]


def replaced(value: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(value, **fields)

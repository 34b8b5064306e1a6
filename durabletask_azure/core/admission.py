"""Which messages count: the dedupe that carries the proof of DESIGN 3.

A message is accepted into the history, dropped (a duplicate, for another execution, for nobody), kept in the row (the
instance cannot run yet), or put back for later (parked, not due, not yet sent). Starts come first and terminations
last within one batch (F19). Nothing here trusts the broker's duplicate detection or sequence numbers: an event counts
if its task is open or its id was never seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, assert_never

import msgspec

from durabletask_azure.core.continuing import continue_request, continued_child
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import (
    EventRaisedEvent,
    ExecutionCompletedEvent,
    ExecutionResumedEvent,
    ExecutionStartedEvent,
    ExecutionSuspendedEvent,
    ExecutionTerminatedEvent,
    HistoryEvent,
    OrchestratorStartedEvent,
    RuntimeStatus,
    SubOrchestrationInstanceCompletedEvent,
    SubOrchestrationInstanceCreatedEvent,
    SubOrchestrationInstanceFailedEvent,
    TaskCompletedEvent,
    TaskFailedEvent,
    TaskScheduledEvent,
    TimerFiredEvent,
)
from durabletask_azure.core.instance import Instance
from durabletask_azure.core.messages import (
    ContinuedChild,
    FailInstance,
    Inbound,
    Message,
    PurgeInstance,
    ReplaceInstance,
    ResetInstance,
    RewindInstance,
    StartInstance,
    ToPartition,
    source_of,
)
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.core.payloads import Payload
from durabletask_azure.core.purge import is_child_of, purge
from durabletask_azure.core.registry import OrchestratorDefinition, Refusal
from durabletask_azure.core.rows import InstanceRow, PastExecution
from durabletask_azure.core.starts import (
    begin,
    child_start,
    replace_request,
    start_absent,
    start_execution,
    starts_another,
)

if TYPE_CHECKING:
    from durabletask_azure.core.turn import Turn, TurnContext

__all__ = ["Admission", "in_order"]

TaskEnded = (
    TaskCompletedEvent
    | TaskFailedEvent
    | SubOrchestrationInstanceCompletedEvent
    | SubOrchestrationInstanceFailedEvent
    | TimerFiredEvent
)
Order = EventRaisedEvent | ExecutionSuspendedEvent | ExecutionResumedEvent | ExecutionTerminatedEvent

_ORDERS = (StartInstance, ReplaceInstance, PurgeInstance, FailInstance, RewindInstance, ResetInstance)
_ENDED_DELAY_S = 1.0
_FULL_DELAY = timedelta(seconds=10)
_encoder = msgspec.json.Encoder()


def in_order(inbound: Sequence[Inbound]) -> Sequence[Inbound]:
    """Return a batch in the order it is handled: starts, events, terminations, purges; each kind as received."""
    return sorted(inbound, key=_rank) if len(inbound) > 1 else inbound


def _rank(item: Inbound) -> int:
    match item.message.body:
        case StartInstance() | ExecutionStartedEvent() | ReplaceInstance():
            return 0
        case RewindInstance() | ResetInstance() | ContinuedChild():
            return 0
        case ExecutionTerminatedEvent() | FailInstance():
            return 2
        case PurgeInstance():
            return 3
        case _:
            return 1


class Admission:
    """One batch of messages on its way into one instance."""

    # What holds for most turns is said here, not set for each.
    ended: ExecutionCompletedEvent | None = None
    """Set when the instance ends without its code being asked: terminated or failed."""
    continued = False
    """Whether the history is a new one, whose code runs in the next turn."""
    changed = False
    custom_status: tuple[Payload] | None = None
    definition: OrchestratorDefinition | None = None
    refusal: Refusal | None = None
    """Why there is no definition: set unless the instance is absent."""

    def __init__(self, instance: Instance, ctx: TurnContext, turn: Turn, loaded: Mapping[str, str]) -> None:
        self.instance = instance
        self.loaded = loaded
        self.ctx = ctx
        self.turn = turn
        self.new: list[HistoryEvent] = []
        """Events added to the history by this turn, for the orchestrator to see."""
        row = instance.row
        self.kept: list[Message] = []
        self.ready = False
        self.reason: str | None = None
        if row is not None:
            self.ready = row.ready
            self.reason = row.reason
            if row.kept:
                self.kept += row.kept
        self.now: datetime = instance.state.now or ctx.server_now

    @property
    def status(self) -> RuntimeStatus:
        """The status of the instance as this turn has it so far."""
        row, state = self.instance.row, self.instance.state
        assert row is not None
        return row.status if state.started is None else state.status

    @property
    def has_work(self) -> bool:
        """Whether the orchestrator has something to run for."""
        return self.definition is not None and bool(self.new or self.ready) and not self.continued

    def run(self, inbound: Sequence[Inbound]) -> None:
        """Admit a batch that is already in order."""
        # never back (replay), and up to what the turn is run for: a nudge has no message to tell the time
        self.now = max(self.now, self.ctx.server_now, *[item.enqueued_at for item in inbound])
        self.find_code()
        if self.instance.row is not None and not self.instance.is_terminal:
            self._resume()
        for item in inbound:
            self._admit(item)

    def admit_step(self, opened: OrchestratorStartedEvent, completed: TaskCompletedEvent) -> None:
        """Take over a turn that is begun: these events are in the history, and the live execution was told them."""
        assert self.instance.execution is not None
        self.definition = self.instance.execution.definition
        self.now = opened.timestamp
        self.new = [opened, completed]
        self.changed = True

    def archive(self) -> tuple[PastExecution, ...]:
        """Move the history of the current execution to segment rows; return all past executions, it included."""
        row = self.instance.row
        assert row is not None
        self.turn.segments += tuple(self.instance.flush_tail(self.ctx.settings.segment_bytes_max))
        commit = row.commit if row.status.is_terminal else self.ctx.n
        started = self.instance.state.started
        sources = started.sources if started is not None else ()
        return (*row.past, PastExecution(row.execution_id, self.instance.segments, commit, sources=sources))

    def put_back(
        self, item: Inbound, *, delay_s: float = 0.0, until: datetime | None = None, park: bool = False
    ) -> None:
        """Send a message to this partition again, later, under a new id."""
        message = item.message
        again = msgspec.structs.replace(
            message,
            id=stable_id(message.id, "again", self.ctx.partition, self.ctx.n),
            parked=message.parked + park,
        )
        deliver_at = until or self.now + timedelta(seconds=delay_s)
        self.turn.eventless += (
            ToPartition(partition=self.ctx.partition, message=again, deliver_at=deliver_at),
        )

    def drop(self, item: Inbound, why: str) -> None:
        """Leave a message out, with a note for the log."""
        self.turn.notes += (
            f"dropped {type(item.message.body).__name__} for {item.message.instance_id!r}: {why}",
        )

    # ------------------------------------------------------------------ what kind of message

    def _admit(self, item: Inbound) -> None:
        message = item.message
        row = self.instance.row
        if starts_another(message):
            self.drop(item, "it starts an instance of another id")
            return
        if row is None:
            self._absent(item)
            return
        if message.execution_id is not None and message.execution_id != row.execution_id:
            self.drop(item, f"meant for execution {message.execution_id}, now {row.execution_id}")
            return
        body = message.body
        match body:
            case StartInstance():
                self._wake(item, row)
            case ExecutionStartedEvent():
                child_start(self, item, body)
            case ReplaceInstance():
                replace_request(self, item, body)
            case PurgeInstance():
                self._purge(item, body)
            case RewindInstance() | ResetInstance():
                continue_request(self, item, body)
            case ContinuedChild():
                continued_child(self, item, body)
            case FailInstance(failure=failure, start=start) if start is not None:
                self._fail_start(item, start, failure)
            case FailInstance() | ExecutionTerminatedEvent():
                self.end(item, body)
            case _:
                self._event(item, body)

    def _wake(self, item: Inbound, row: InstanceRow) -> None:
        if self.instance.state.started is not None or self.instance.is_terminal or begin(self):
            return
        if row.scheduled_start is not None and self.now < row.scheduled_start:
            self.put_back(item, until=row.scheduled_start)

    def _purge(self, item: Inbound, body: PurgeInstance) -> None:
        if self.ended is not None:
            self.put_back(item, delay_s=_ENDED_DELAY_S)
        elif purge(self, item, body):
            self.changed = False

    def _absent(self, item: Inbound) -> None:
        message = item.message
        tombstone = self.instance.tombstone
        match message.body:
            case ExecutionStartedEvent() as started:
                start_absent(self, item, started)
            case ReplaceInstance(start=started, event=event, created_at=None):
                start_absent(self, item, started, event)
            case ContinuedChild(start=started):
                start_absent(self, item, started)
            case FailInstance(failure=failure, start=start) if start is not None:
                self._fail_start(item, start, failure)
            case body if isinstance(body, _ORDERS):
                self.drop(item, "there is no such instance")
            case _ if tombstone is not None or message.execution_id is not None:
                self.drop(item, "the instance was purged")
            case _ if message.parked < len(self.ctx.settings.park_delays_s):
                self.put_back(item, delay_s=self.ctx.settings.park_delays_s[message.parked], park=True)
            case _:
                self.drop(item, "there is no such instance, and it was tried again often enough")

    # ------------------------------------------------------------------ code that is not here

    def find_code(self) -> None:
        """Look up the code of the instance's name and version, and whether this worker runs it."""
        row = self.instance.row
        found = None if row is None else self.ctx.registry.code_for(row.name, row.version)
        self.refusal = found if isinstance(found, Refusal) else None
        self.definition = None if isinstance(found, Refusal) else found

    def _resume(self) -> None:
        """Do what needs no message: a start that is due, kept messages whose code is here now."""
        if self.instance.state.started is None:
            begin(self)
        elif self.refusal is not None:
            self.refuse(self.refusal)
        elif self.kept or self.reason is not None:
            self.admit_kept()

    def refuse(self, refusal: Refusal) -> None:
        """Let the instance wait with a reason in its row, or fail it, as the worker is told to."""
        if refusal.failure is not None:
            self.fail(refusal.failure)
            return
        self.changed = self.changed or self.reason != refusal.reason
        self.reason = refusal.reason

    def admit_kept(self) -> None:
        """Admit what waited in the row, now that the instance can run."""
        kept, self.kept = self.kept, []
        self.changed = self.changed or bool(kept) or self.reason is not None
        self.reason = None
        for item in in_order([Inbound(message=message, enqueued_at=self.now) for message in kept]):
            self._admit(item)

    def _keep(self, item: Inbound) -> None:
        message = item.message
        if any(other.id == message.id or source_of(other) == source_of(message) for other in self.kept):
            return
        size = sum(len(_encoder.encode(other)) for other in (*self.kept, message))
        if size > self.ctx.settings.pending_bytes_max:
            self.put_back(item, until=self.now + _FULL_DELAY)
            return
        self.kept.append(message)
        self.changed = True

    # ------------------------------------------------------------------ events

    def end(self, item: Inbound, body: FailInstance | ExecutionTerminatedEvent) -> None:
        """End a pending or running instance without asking its code."""
        if self.instance.is_terminal or self.ended is not None:
            self.drop(item, "the instance has ended")
            return
        if isinstance(body, ExecutionTerminatedEvent):
            if body.source_id in self.instance.state.seen:
                self.drop(item, "a duplicate")
                return
            if not is_child_of(self, body.parent_execution_id):
                self.drop(item, "it is for the child of another execution")
                return
        if isinstance(body, FailInstance):
            self.fail(body.failure)
            return
        if self.instance.state.started is None:
            start_execution(self)
        self.push(msgspec.structs.replace(body, timestamp=item.enqueued_at, commit=self.ctx.n))
        children = tuple(
            task.instance_id
            for task in self.instance.state.tasks.values()
            if isinstance(task, SubOrchestrationInstanceCreatedEvent)
        )
        self.ended = ExecutionCompletedEvent(
            timestamp=self.now,
            commit=self.ctx.n,
            status=RuntimeStatus.TERMINATED,
            result=body.input,
            cascade=children if body.recurse else (),
        )

    def _fail_start(
        self, item: Inbound, start: ExecutionStartedEvent | ReplaceInstance, failure: FailureDetails
    ) -> None:
        """Start an instance, if ``start`` does so, and end it as failed, without asking its code."""
        message = msgspec.structs.replace(item.message, body=start)
        self._admit(msgspec.structs.replace(item, message=message))
        row = self.instance.row
        started = start if isinstance(start, ExecutionStartedEvent) else start.start
        if row is not None and row.execution_id == started.execution_id:
            self.end(item, FailInstance(failure=failure))

    def fail(self, failure: FailureDetails) -> None:
        """End a pending or running instance as failed, without asking its code."""
        if self.instance.state.started is None:
            start_execution(self)
        self.ended = ExecutionCompletedEvent(
            timestamp=self.now, commit=self.ctx.n, status=RuntimeStatus.FAILED, failure=failure
        )
        self._touch()

    def _event(
        self,
        item: Inbound,
        body: TaskEnded | EventRaisedEvent | ExecutionSuspendedEvent | ExecutionResumedEvent,
    ) -> None:
        if self.instance.is_terminal or self.ended is not None:
            self.drop(item, "the instance has ended")
        elif (
            self.definition is None
            or self.continued
            or (self.instance.state.started is None and not begin(self))
        ):
            self._keep(item)
        else:
            self._accept(item, body)

    def _accept(
        self,
        item: Inbound,
        body: TaskEnded | EventRaisedEvent | ExecutionSuspendedEvent | ExecutionResumedEvent,
    ) -> None:
        state = self.instance.state
        match body:
            case TaskCompletedEvent() | TaskFailedEvent():
                if not isinstance(state.tasks.get(body.task_scheduled_id), TaskScheduledEvent):
                    return self.drop(item, "its task is not open")
            case SubOrchestrationInstanceCompletedEvent() | SubOrchestrationInstanceFailedEvent():
                if not isinstance(
                    state.tasks.get(body.task_scheduled_id), SubOrchestrationInstanceCreatedEvent
                ):
                    return self.drop(item, "its task is not open")
            case TimerFiredEvent():
                fire_at = state.timers.get(body.timer_id)
                if fire_at is None:
                    return self.drop(item, "its timer is not open")
                if item.enqueued_at < fire_at:
                    return self.put_back(item, until=fire_at)
            case EventRaisedEvent() | ExecutionSuspendedEvent() | ExecutionResumedEvent():
                if body.source_id in state.seen:
                    return self.drop(item, "a duplicate")
                if (room_at := self._room_at()) is not None:
                    return self.put_back(item, until=room_at)
            case _ as never:
                assert_never(never)
        self.push(msgspec.structs.replace(body, timestamp=item.enqueued_at, commit=self.ctx.n))
        return None

    def _room_at(self) -> datetime | None:
        """Return when one more id may fit, ``None`` if it does now. All are gone through only once one has expired."""
        state, settings = self.instance.state, self.ctx.settings
        if len(state.seen) < settings.seen_ids_max:
            return None
        keep = timedelta(seconds=settings.seen_ids_s)
        if state.oldest_seen is None or state.oldest_seen + keep < self.now:
            young = state.seen_to_carry(self.now, settings.seen_ids_s, dict(self.ctx.confirmed))
            state.seen = {entry.id: entry for entry in young}
            if len(young) < settings.seen_ids_max:
                return None
            state.oldest_seen = min(entry.at for entry in young)
        return max(state.oldest_seen + keep, self.now) + _FULL_DELAY

    def push(self, event: HistoryEvent) -> None:
        """Add an event to the history, for the orchestrator to see."""
        self.changed = True
        events = (event,) if self.new else (self._opened(), event)
        self.new.extend(events)
        self.turn.events += len(events)
        self.instance.append(events)

    def _touch(self) -> None:
        """Begin the turn in the history, once."""
        if not self.new:
            opened = self._opened()
            self.new.append(opened)
            self.turn.events += 1
            self.instance.append((opened,))
        self.changed = True

    def _opened(self) -> OrchestratorStartedEvent:
        return OrchestratorStartedEvent(timestamp=self.now, commit=self.ctx.n)

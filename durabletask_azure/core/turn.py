"""One turn of one instance: messages in, rows and messages out, nothing done.

``run_turn`` admits the messages (dedupe, order, parking: ``admission.py``), lets the orchestrator run, records what it
decided (``record.py``) and returns a :class:`Turn`: what to write and send, as data. It changes the
:class:`Instance`, which must be dropped if the turn cannot be committed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import assert_never

import msgspec

from durabletask_azure.core.actions import Completed, ContinuedAsNew, Decision, Failed
from durabletask_azure.core.admission import Admission, in_order
from durabletask_azure.core.failures import FailureDetails, qualified_name
from durabletask_azure.core.history import (
    EventRaisedEvent,
    ExecutionCompletedEvent,
    ExecutionResumedEvent,
    ExecutionSuspendedEvent,
    HistoryEvent,
    OrchestratorStartedEvent,
    TaskCompletedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
    TimerFiredEvent,
)
from durabletask_azure.core.instance import Instance
from durabletask_azure.core.messages import FailInstance, Inbound, Message, Outbound
from durabletask_azure.core.next_row import ended_row, next_row
from durabletask_azure.core.outbox import messages_for, task_messages, unsent_messages
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.core.payloads import ANY_EXECUTION, BlobRef, PayloadWriter
from durabletask_azure.core.record import (
    continued_events,
    decided_events,
    failed_event,
    scheduled_tasks,
    small_end,
)
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import Execution, RuntimeOptions
from durabletask_azure.core.rewind import split_unrun
from durabletask_azure.core.rows import (
    DeleteInstance,
    InstanceRow,
    PutInstance,
    PutSegment,
    RowWrite,
)
from durabletask_azure.core.state import ExecutionState
from durabletask_azure.core.trimming import trim_past
from durabletask_azure.errors import OrchestrationLimitError, PayloadTooLargeError
from durabletask_azure.settings import Settings

__all__ = ["Turn", "TurnContext", "overdue_timers", "run_step", "run_turn"]


_NOTHING: Mapping[str, bytes] = MappingProxyType({})


class TurnContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn has to know about its surroundings.

    ``n`` is the number of the commit this turn will be part of, ``sent`` the newest commit whose sends are confirmed,
    ``server_now`` the store's time, ``confirmed`` the newest confirmed commit of every partition heard of.
    """

    partition: int
    partitions: int
    n: int
    sent: int
    server_now: datetime
    settings: Settings
    registry: Registry
    options: RuntimeOptions
    confirmed: Mapping[int, int] = {}


class Turn(msgspec.Struct, eq=False, gc=False):
    """What a turn of one instance came to. Most of it is empty for most turns, and then takes no room."""

    instance: Instance
    row: InstanceRow | None = None
    """The instance row to write."""
    main: tuple[RowWrite, ...] = ()
    """Its companions: in one transaction with it, before it."""
    segments: tuple[PutSegment, ...] = ()
    """Rows that mean nothing until the instance row refers to them: may be staged."""
    cleanup: tuple[RowWrite, ...] = ()
    """Deletions of rows nothing refers to any more: after the commit."""
    outbound: tuple[Outbound, ...] = ()
    """Messages that the events of this turn cause, in order."""
    eventless: tuple[Outbound, ...] = ()
    """Messages without an event of their own: kept in an outbox row until sent."""
    cancels: tuple[str, ...] = ()
    """Ids of scheduled messages nobody waits for any more."""
    uploads: Mapping[str, bytes] = _NOTHING
    """Payloads to store before the commit, by name."""
    dropped_payloads: tuple[str, ...] = ()
    """Prefixes of payload names to delete after the commit."""
    notes: tuple[str, ...] = ()
    """What an operator may want to read, for the log."""
    events: int = 0
    """History events this turn added."""
    is_plain: bool = False
    """Whether it is an instance row and the messages of its events, with nothing to do before or after."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit or send."""
        return self.row is None and not (
            self.main or self.segments or self.outbound or self.eventless or self.cleanup
        )

    def writes(self) -> list[RowWrite]:
        """Return the instance row and its companions, with the ETag the instance has by now."""
        etag = self.instance.etag
        writes: list[RowWrite] = [
            msgspec.structs.replace(write, if_match=etag) if isinstance(write, DeleteInstance) else write
            for write in self.main
        ]
        if self.row is not None:
            writes.append(PutInstance(self.row, etag))
        return writes


def overdue_timers(instance: Instance, now: datetime, grace_s: float) -> list[Inbound]:
    """Return the timers of an instance that are overdue by more than the grace, as if the broker had delivered them."""
    started = instance.state.started
    if started is None:
        return []
    return [
        Inbound(
            message=Message(
                id=stable_id(started.execution_id, "timer", timer_id, "sweep"),
                instance_id=instance.instance_id,
                execution_id=started.execution_id,
                body=TimerFiredEvent(timestamp=fire_at, timer_id=timer_id, fire_at=fire_at),
            ),
            enqueued_at=now,
        )
        for timer_id, fire_at in sorted(instance.state.timers.items())
        if (now - fire_at).total_seconds() > grace_s
    ]


def run_turn(
    instance: Instance,
    inbound: Sequence[Inbound],
    loaded: Mapping[str, str],
    ctx: TurnContext,
    *,
    broken: FailureDetails | None = None,
) -> Turn:
    """Handle ``inbound``, in the order received, for one instance.

    ``loaded`` maps names of spilled values that the turn may need to their text. With ``broken`` the instance is failed
    instead of run: something it needs is lost, or a message to it is poison. Without messages the turn does what is due
    by ``ctx.server_now``: a start, a new execution, kept messages.
    """
    if broken is None and len(inbound) == 1:
        step = run_step(instance, inbound[0], ctx)
        if step is not None:
            return step
    turn = Turn(instance)
    broken = broken or _over_limit(instance.state, ctx.settings)
    admission = Admission(instance, ctx, turn, loaded)
    if broken is not None and not instance.is_terminal:
        inbound = [*inbound, _poison(instance, broken, ctx)]
    admission.run(in_order(inbound))
    if admission.ended is not None:
        _end(admission, turn, admission.ended)
    elif admission.has_work:
        _execute(admission, turn, loaded, ctx)
    _finish(admission, turn, ctx)
    return turn


def _over_limit(state: ExecutionState, settings: Settings) -> FailureDetails | None:
    """Return why an execution may not go on: it has grown over a limit."""
    open_tasks = len(state.tasks) + len(state.timers)
    if state.events > settings.history_events_max:
        message = f"the history has {state.events:,} events, more than history_events_max allows"
        message += f" ({settings.history_events_max:,}); continue_as_new begins a new one"
    elif open_tasks > settings.open_tasks_max:
        message = f"{open_tasks:,} tasks are open at once, more than open_tasks_max allows"
        message += f" ({settings.open_tasks_max:,})"
    else:
        return None
    return FailureDetails(
        message=message, error_type=qualified_name(OrchestrationLimitError), is_non_retriable=True
    )


def run_step(instance: Instance, item: Inbound, ctx: TurnContext) -> Turn | None:
    """Handle the usual message: an open activity of a warm instance has completed, and nothing else is due.

    Does in one go what the general way does in many calls, and comes to the same; what is unusual about the decision
    goes that way. Returns ``None``, with nothing done, if the turn is not the usual one.
    """
    message, settings = item.message, ctx.settings
    body = message.body
    if type(body) is not TaskCompletedEvent:
        return None
    row, execution, state = instance.row, instance.execution, instance.state
    if (
        execution is None
        or row is None
        or (message.execution_id is not None and message.execution_id != row.execution_id)
        or type(state.tasks.get(body.task_scheduled_id)) is not TaskScheduledEvent
        or type(body.result) is BlobRef
        or row.kept
        or row.ready
        or row.past
        or row.reason is not None
        or state.events > settings.history_events_max
        or len(state.tasks) + len(state.timers) > settings.open_tasks_max
    ):
        return None
    turn = Turn(instance)
    n, at = ctx.n, item.enqueued_at
    now = at if at > ctx.server_now else ctx.server_now
    now = now if state.now is None or now > state.now else state.now
    opened = OrchestratorStartedEvent(timestamp=now, commit=n)
    completed = TaskCompletedEvent(
        timestamp=at,
        task_scheduled_id=body.task_scheduled_id,
        result=body.result,
        commit=n,
    )
    decision = execution.run((opened, completed), {})
    events = _usual_events(decision, row, settings.payload_inline_bytes_max, now, n)
    if events is None:
        turn.events = 2
        instance.append((opened, completed))
        admission = Admission(instance, ctx, turn, {})
        admission.admit_step(opened, completed)
        _record(admission, turn, decision, admission.new, ctx)
        _finish(admission, turn, ctx)
        return turn
    scheduled, ended = events
    turn.events = 2 + len(scheduled) + (ended is not None)
    instance.append_step(opened, completed, scheduled, ended)
    if scheduled:
        turn.outbound = task_messages(scheduled, instance.origin(ctx.partition, ctx.partitions))
    if instance.tail_bytes > settings.history_inline_bytes_max:
        turn.segments = tuple(instance.flush_tail(settings.segment_bytes_max))
    turn.is_plain = not turn.segments
    if ended is not None:
        instance.drop_execution()
        turn.row = instance.row = ended_row(instance, row, ended, now=now, n=n)
        return turn
    turn.row = instance.row = msgspec.structs.replace(
        row,
        updated_at=now if now > row.created_at else row.created_at,
        commit=n,
        tail=instance.joined_tail(),
        segments=instance.segments,
        events=state.events,
    )
    return turn


def _usual_events(
    decision: Decision, row: InstanceRow, inline_chars_max: int, now: datetime, n: int
) -> tuple[Sequence[TaskScheduledEvent], ExecutionCompletedEvent | None] | None:
    """Return the events of a decision to call activities, to end with a result for nobody but clients, or both.

    ``None`` if it is about anything else, or a value is not small.
    """
    if decision.custom_status_set or decision.cancelled_timers:
        return None
    ended: ExecutionCompletedEvent | None = None
    if decision.completion is not None:
        ended = small_end(decision.completion, inline_chars_max, now=now, n=n)
        if ended is None or row.parent is not None:
            return None
    scheduled = scheduled_tasks(decision, inline_chars_max, now=now, n=n)
    return None if scheduled is None else (scheduled, ended)


def _poison(instance: Instance, failure: FailureDetails, ctx: TurnContext) -> Inbound:
    message = Message(
        id=stable_id(instance.instance_id, "broken", ctx.n),
        instance_id=instance.instance_id,
        body=FailInstance(failure=failure),
    )
    return Inbound(message=message, enqueued_at=instance.state.now or ctx.server_now)


def _execute(admission: Admission, turn: Turn, loaded: Mapping[str, str], ctx: TurnContext) -> None:
    instance = turn.instance
    row = instance.row
    definition = admission.definition
    assert row is not None and definition is not None
    new: list[HistoryEvent] = admission.new
    if row.ready:
        past, begun = split_unrun(instance.cold or ())
        new = [*begun, *new]
        instance.cold = past
    if instance.execution is None:
        instance.execution = Execution(definition, ctx.options)
        instance.execution.replay(instance.cold or (), loaded)
        instance.cold = None
    decision = instance.execution.run(new, loaded)
    _record(admission, turn, decision, new, ctx)


def _record(
    admission: Admission, turn: Turn, decision: Decision, new: Sequence[HistoryEvent], ctx: TurnContext
) -> None:
    """Make what was decided the history: whole, or, if it cannot be stored, as a failure and nothing else."""
    instance = turn.instance
    origin = instance.origin(ctx.partition, ctx.partitions)
    now = instance.state.now
    assert now is not None
    writer = _writer(ctx)
    try:
        events = decided_events(decision, origin, writer, now=now, n=ctx.n)
        if decision.custom_status_set:
            own = {"instance_id": instance.instance_id, "execution_id": ANY_EXECUTION}
            admission.custom_status = (writer.store(decision.custom_status, **own, what="the custom status"),)
        _append(admission, turn, events)
    except (TypeError, ValueError) as error:
        # over the cap, or not JSON: the user's own converter, names with half a surrogate pair, a failure's properties
        kind = "PayloadTooLargeError" if isinstance(error, PayloadTooLargeError) else "SerializationError"
        failure = FailureDetails(message=f"what the turn decided cannot be stored: {error}", error_type=kind)
        decision = Decision(completion=Failed(failure))
        writer = _writer(ctx)
        events = [failed_event(failure, origin, writer, now=now, n=ctx.n)]
        admission.custom_status = None
        _append(admission, turn, events)
    if writer.uploads:
        turn.uploads = writer.uploads
    if decision.cancelled_timers:
        cancelled = set(decision.cancelled_timers)
        events = [e for e in events if not (isinstance(e, TimerCreatedEvent) and e.event_id in cancelled)]
        _cancel_timers(turn, decision, origin.execution_id, now, ctx)
    if events:
        turn.outbound += tuple(unsent_messages(events, ctx.n - 1, instance.state, origin))
    match decision.completion:
        case ContinuedAsNew():
            unfed = new[len(new) - decision.unfed :] if decision.unfed else ()
            _continue_as_new(admission, turn, decision.completion, unfed, ctx)
        case Completed() | Failed():
            instance.drop_execution()
        case None:
            admission.ready = False
        case _ as never:
            assert_never(never)


def _writer(ctx: TurnContext) -> PayloadWriter:
    return PayloadWriter(
        partitions=ctx.partitions,
        inline_bytes_max=ctx.settings.payload_inline_bytes_max,
        bytes_max=ctx.settings.payload_bytes_max,
    )


def _cancel_timers(
    turn: Turn, decision: Decision, execution_id: str, now: datetime, ctx: TurnContext
) -> None:
    created = {action.id for action in decision.actions}
    for timer_id in decision.cancelled_timers:
        fire_at = turn.instance.state.timers.get(timer_id)
        if fire_at is None or timer_id in created:
            continue
        if (fire_at - now).total_seconds() >= ctx.settings.timer_cancel_s_min:
            turn.cancels += (stable_id(execution_id, "timer", timer_id),)


def _continue_as_new(
    admission: Admission,
    turn: Turn,
    completion: ContinuedAsNew,
    unfed: Sequence[HistoryEvent],
    ctx: TurnContext,
) -> None:
    instance = turn.instance
    state = instance.state
    row = instance.row
    assert row is not None and state.continued is not None and state.now is not None
    late = tuple(event for event in unfed if isinstance(event, EventRaisedEvent))
    started = continued_events(state, completion, late, ctx.settings.seen_ids_s, dict(ctx.confirmed), n=ctx.n)
    orders = [event for event in unfed if isinstance(event, (ExecutionSuspendedEvent, ExecutionResumedEvent))]
    past = admission.archive()
    instance.restart_history()
    fresh: list[HistoryEvent] = [
        OrchestratorStartedEvent(timestamp=started.timestamp, commit=ctx.n),
        started,
        *(msgspec.structs.replace(event, commit=ctx.n) for event in orders),
    ]
    instance.append(fresh)
    instance.cold = fresh
    turn.events += len(fresh)
    instance.row = msgspec.structs.replace(
        row,
        execution_id=started.execution_id,
        version=started.version,
        input=started.input,
        generation=started.generation,
        past=past,
    )
    admission.ready = True


def _append(admission: Admission, turn: Turn, events: Sequence[HistoryEvent]) -> None:
    turn.instance.append(events)
    turn.events += len(events)
    admission.changed = True


def _end(admission: Admission, turn: Turn, ended: ExecutionCompletedEvent) -> None:
    """Write the end of an instance that was terminated or failed from outside."""
    _append(admission, turn, [ended])
    origin = turn.instance.origin(admission.ctx.partition, admission.ctx.partitions)
    turn.outbound += tuple(messages_for(ended, origin))
    turn.instance.drop_execution()


def _finish(admission: Admission, turn: Turn, ctx: TurnContext) -> None:
    instance = turn.instance
    if admission.changed and instance.row is not None:
        if len(instance.row.past) > ctx.settings.executions_kept:
            trim_past(turn, ctx)
        if instance.tail_bytes > ctx.settings.history_inline_bytes_max:
            turn.segments += tuple(instance.flush_tail(ctx.settings.segment_bytes_max))
        turn.row = instance.row = next_row(admission)
        if turn.row.status.is_terminal:
            instance.cold = None
        turn.is_plain = not (
            turn.row.ready
            or turn.row.reason is not None
            or turn.main
            or turn.segments
            or turn.cleanup
            or turn.eventless
            or turn.uploads
            or turn.cancels
            or turn.dropped_payloads
        )

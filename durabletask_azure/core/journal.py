"""What one execution has asked for, waits for and was told: the state behind the orchestration context.

Invariant: actions are numbered 1, 2, 3, ... in the order the orchestrator takes them. While history is replayed every
action waits in ``unmatched`` for the event that records it; afterwards it goes into ``actions``, the turn's decision.
Each call completes at most once; completions for unknown ids are ignored. Running the orchestrator's code is
``core.replay``'s business, what the user sees is ``core.context``'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from durabletask_azure.core.actions import (
    Action,
    ContinuedAsNew,
    CreateTimer,
    ScheduleTask,
    SendEvent,
    StartSubOrchestration,
)
from durabletask_azure.core.codec import DataConverter, JsonDataConverter
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import EventRaisedEvent
from durabletask_azure.core.middleware import ActivityMiddleware, OrchestrationMiddleware
from durabletask_azure.core.payload_codec import NO_CODECS, PayloadCodecs
from durabletask_azure.core.retry import RetryPolicy, next_delay
from durabletask_azure.core.tasks import CancellableTask, CompletableTask, TimerTask
from durabletask_azure.errors import OrchestrationLimitError, OrchestrationStateError, PayloadCodecError

__all__ = ["Journal", "RuntimeOptions", "Start", "child_action"]

_BEFORE = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions:
    """What the runtime takes from the worker's settings; it must be the same wherever an execution is replayed."""

    codec: DataConverter = field(default_factory=JsonDataConverter)
    codecs: PayloadCodecs = NO_CODECS
    """What failures are encoded with; values are by ``codec``."""
    failure_text_bytes_max: int = 16 * 1024
    name_chars_max: int = 250
    instance_id_chars_max: int = 500
    actions_max: int = 250_000
    """Actions an orchestrator may take between two of its waits."""
    steps_max: int = 10_000_000
    """Callbacks one event may set off before the orchestrator counts as never coming to rest."""
    default_version: str | None = None
    """The version sub-orchestrations are started with when the call names none."""
    maximum_timer_interval: timedelta | None = None
    """A longer timer is made of several, one after the other; ``None`` for no limit. It may change between replays."""
    orchestration_middleware: tuple[OrchestrationMiddleware, ...] = ()
    """Code around every orchestration, outermost first."""
    activity_middleware: tuple[ActivityMiddleware, ...] = ()
    """Code around every activity, outermost first."""
    exception_properties: Callable[[BaseException], dict[str, Any] | None] | None = None


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What an execution knows of itself from its first event."""

    name: str
    instance_id: str
    execution_id: str
    version: str | None
    parent_instance_id: str | None
    generation: int
    tags: dict[str, str]


_UNSTARTED = Start(
    name="", instance_id="", execution_id="", version=None, parent_instance_id=None, generation=0, tags={}
)


class _Retry(msgspec.Struct):
    """A call with a retry policy: what to schedule again, and what has been tried."""

    policy: RetryPolicy
    again: Callable[[int], Action]
    first_attempt_at: datetime
    attempt: int = 1


class _CallTask(CompletableTask[Any]):
    """The result of an activity or sub-orchestration, and how that is called again if it fails."""

    __slots__ = ("is_child", "name", "retry")

    name: str
    is_child: bool
    retry: _Retry | None


class Journal:
    """The actions, open calls, timers, events and clock of one execution."""

    def __init__(self, options: RuntimeOptions) -> None:
        self.options = options
        self.start = _UNSTARTED
        self.now = _BEFORE
        self.replaying = True
        self.inert = False
        self.sequence = 0
        self.uuids = 0
        self.actions: list[Action] = []
        self.unmatched: dict[int, Action] = {}
        self.cancelled_timers: list[int] = []
        self.custom_status: str | None = None
        self.custom_status_set = False
        self.continued: Callable[[], ContinuedAsNew] | None = None
        self.broken: PayloadCodecError | OrchestrationLimitError | None = None
        """Why a value could not be encoded: that ends the execution, whatever its code made of the error."""
        self._origin: datetime | None = None
        self._calls: dict[int, _CallTask] = {}
        self._timers: dict[int, TimerTask] = {}
        self._part_of: dict[int, datetime] = {}
        self._buffered: dict[str, deque[tuple[int, EventRaisedEvent, str | Exception | None]]] = {}
        self._arrivals = 0
        self._waiting: dict[str, deque[CancellableTask[Any]]] = {}

    # ------------------------------------------------------------ clock and turns

    def advance(self, now: datetime) -> None:
        """Move the orchestration's clock; it never goes back."""
        if now.tzinfo is None:
            now = now.replace(tzinfo=UTC)
        if now > self.now:
            self.now = now
            if self._origin is None:
                self._origin = now

    def seconds(self) -> float:
        """Return the orchestration's clock in seconds since it first moved."""
        return 0.0 if self._origin is None else (self.now - self._origin).total_seconds()

    def later(self, delay: timedelta) -> datetime:
        """Return the time ``delay`` from now, or the end of time."""
        try:
            return self.now + delay
        except OverflowError:
            return _NEVER

    def begin_turn(self) -> None:
        """Collect what the orchestrator decides from here on as new."""
        self.replaying = False
        self.actions.clear()
        self.cancelled_timers.clear()
        self.custom_status_set = False

    def check_alive(self) -> None:
        """Refuse calls of code that is only being cleaned up.

        Raises:
            OrchestrationStateError: the execution was taken out of memory.
        """
        if self.inert:
            raise OrchestrationStateError(
                "this execution has been taken out of memory; its context is closed"
            )

    # ------------------------------------------------------------ actions of the orchestrator

    def _record(self, make: Callable[[int], Action]) -> int:
        """Take the action ``make(number)``; return its number."""
        number = self.sequence + 1
        self._take(make(number))
        return number

    def _take(self, action: Action) -> None:
        if self.inert:
            self.check_alive()
        self.sequence = action.id
        if self.replaying:
            self.unmatched[action.id] = action
        elif len(self.actions) >= self.options.actions_max:
            self.broken = OrchestrationLimitError(
                f"the orchestrator takes more than {self.options.actions_max:,} actions without waiting for any"
                " (open_tasks_max in the settings)"
            )
            raise self.broken
        else:
            self.actions.append(action)

    def text_of(self, value: Any) -> str | None:
        """Return a value of the orchestrator as text; errors as of the data converter."""
        try:
            return self.options.codec.serialize(value)
        except PayloadCodecError as error:
            self.broken = error
            raise

    def call(
        self,
        name: str,
        make: Callable[[int], Action],
        *,
        is_child: bool,
        return_type: Any,
        policy: RetryPolicy | None,
    ) -> CompletableTask[Any]:
        """Take the action ``make(id)`` and return the task of its completion; a policy repeats it on failure."""
        retry = None if policy is None else _Retry(policy, make, self.now)
        task = self._calls[self._record(make)] = _CallTask(return_type)
        task.name, task.is_child, task.retry = name, is_child, retry
        return task

    def call_activity(
        self,
        name: str,
        text: str | None,
        tags: dict[str, str] | None,
        *,
        return_type: Any,
        policy: RetryPolicy | None,
    ) -> CompletableTask[Any]:
        """Schedule an activity and return the task of its result; a policy repeats it on failure."""
        if policy is not None:
            make = _activity_action(name=name, text=text, tags=tags)
            return self.call(name, make, is_child=False, return_type=return_type, policy=policy)
        number = self.sequence + 1
        self._take(ScheduleTask(id=number, name=name, input=text, tags=tags))
        task = self._calls[number] = _CallTask(return_type)
        task.name, task.is_child, task.retry = name, False, None
        return task

    def child_id(self, task_id: int) -> str:
        """Return the generated instance id of a sub-orchestration."""
        return f"{self.start.execution_id}:{task_id:04x}"

    def create_timer(self, fire_at: datetime) -> TimerTask:
        """Create a durable timer."""
        timer = TimerTask(fire_at)
        self._set_timer(timer, fire_at)
        return timer

    def _set_timer(self, timer: TimerTask, due: datetime) -> None:
        """Have the history time a timer, or the next part of it if it is longer than timers may be."""
        interval = self.options.maximum_timer_interval
        final: datetime | None = None
        fire_at = due
        if interval is not None and due - self.now > interval:
            final, fire_at = due, self.now + interval
        timer_id = self._record(lambda id: CreateTimer(id=id, fire_at=fire_at, final_fire_at=final))
        self._timers[timer_id] = timer
        if final is not None:
            self._part_of[timer_id] = final
        timer.set_cancel_handler(lambda: self._forget_timer(timer_id))

    def timer_recorded(self, timer_id: int, final_fire_at: datetime | None) -> None:
        """Take over from the history whether a timer was made of parts: the limit may have been another then."""
        if final_fire_at is not None:
            self._part_of[timer_id] = final_fire_at
        elif self._part_of:
            self._part_of.pop(timer_id, None)

    def _forget_timer(self, timer_id: int) -> None:
        if not self.inert and self._timers.pop(timer_id, None) is not None:
            self.cancelled_timers.append(timer_id)

    def start_timer(self, delay: timedelta, callback: Callable[[], None]) -> TimerTask:
        """Create a durable timer that calls back when it fires, not when it is cancelled (for the event loop)."""
        timer = self.create_timer(self.later(delay))
        timer.set_finish_hook(lambda: None if timer.is_cancelled else callback())
        return timer

    def send_event(self, instance_id: str, name: str, text: str | None) -> None:
        """Send an event to another instance."""
        self._record(lambda id: SendEvent(id=id, instance_id=instance_id, name=name, input=text))

    # ------------------------------------------------------------ external events

    def wait_for_event(self, name: str, data_type: Any, timeout: timedelta | None) -> CancellableTask[Any]:
        """Return the task of the next event of that name: one that is buffered, or one still to come."""
        self.check_alive()
        key = name.casefold()
        task: CancellableTask[Any] = CancellableTask(data_type)
        buffered = self._buffered.get(key)
        if buffered:
            _, _, text = buffered.popleft()
            if not buffered:
                del self._buffered[key]
            self._complete(task, text)
            return task
        self._waiting.setdefault(key, deque()).append(task)
        timer = None if timeout is None else self._limit_wait(task, name, timeout)

        def over() -> None:
            self._strip_waiting(key)
            if timer is not None:
                timer.cancel()

        task.set_finish_hook(over)
        return task

    def _strip_waiting(self, key: str) -> None:
        """Drop waits that are over from both ends of their queue; the others once they get there."""
        waiting = self._waiting[key]
        while waiting and waiting[0].is_complete:
            waiting.popleft()
        while waiting and waiting[-1].is_complete:
            waiting.pop()
        if not waiting:
            del self._waiting[key]

    def _limit_wait(self, task: CancellableTask[Any], name: str, timeout: timedelta) -> TimerTask:
        def expired() -> None:
            task.fail("", TimeoutError(f"no event {name!r} arrived within {timeout}"))

        return self.start_timer(timeout, expired)

    def event_raised(self, event: EventRaisedEvent, text: str | Exception | None) -> None:
        """Give an external event to the oldest wait for it, or keep it."""
        waiting = self._waiting.get(event.name.casefold())
        if waiting:  # never empty, and open at both ends: see _strip_waiting
            self._complete(waiting.popleft(), text)
        else:
            self.keep_event(event, text)

    def keep_event(self, event: EventRaisedEvent, text: str | Exception | None) -> None:
        """Keep an external event for a later wait, or for the next execution."""
        self._arrivals += 1
        if isinstance(text, str):
            text = self.options.codecs.opened(text)
        self._buffered.setdefault(event.name.casefold(), deque()).append((self._arrivals, event, text))

    def unconsumed_events(self) -> tuple[EventRaisedEvent, ...]:
        """Return the events nobody has waited for, in order of arrival."""
        kept = [entry for entries in self._buffered.values() for entry in entries]
        return tuple(event for _, event, _ in sorted(kept, key=lambda entry: entry[0]))

    # ------------------------------------------------------------ what the history tells

    def completed(self, task_id: int, text: str | Exception | None, *, is_child: bool) -> None:
        """Complete a call with its result."""
        call = self._calls.get(task_id)
        if call is not None and call.is_child is is_child:
            del self._calls[task_id]
            self._complete(call, text)

    def failed(self, task_id: int, failure: FailureDetails, *, is_child: bool) -> None:
        """Fail a call, or set the timer of its next attempt."""
        call = self._calls.get(task_id)
        if call is None or call.is_child is not is_child:
            return
        del self._calls[task_id]
        failure = self.options.codecs.decode_failure(failure)
        retry = call.retry
        if retry is not None:
            try:
                delay = next_delay(retry.policy, retry.attempt, retry.first_attempt_at, self.now, failure)
            except Exception as error:  # the user's predicate
                call.fail("", error)
                return
            if delay is not None:
                self.start_timer(delay, lambda: self._try_again(call, retry))
                return
        what = "sub-orchestration" if is_child else "activity"
        call.fail(f"{what} {call.name!r} (task {task_id}) failed: {failure.message}", failure)

    def _try_again(self, call: _CallTask, retry: _Retry) -> None:
        retry.attempt += 1
        self._calls[self._record(retry.again)] = call

    def timer_fired(self, timer_id: int) -> None:
        """Complete a timer, or set its next part, unless it was cancelled."""
        timer = self._timers.pop(timer_id, None)
        due = self._part_of.pop(timer_id, None) if self._part_of else None
        if timer is None:
            return
        if due is None:
            timer.complete(None)
        else:
            self._set_timer(timer, due)

    def _complete(self, task: CompletableTask[Any], text: str | Exception | None) -> None:
        if isinstance(text, Exception):
            task.fail("", text)
            return
        try:
            value = self.options.codec.deserialize(text, task.expected_type)
        except PayloadCodecError:  # not for the orchestrator to handle: another worker could read it
            raise
        except Exception as error:  # shows where the value is awaited
            task.fail("", error)
        else:
            task.complete(value)


def child_action(
    journal: Journal, *, name: str, instance_id: str | None, text: str | None, version: str | None, tags: Any
) -> Callable[[int], Action]:
    """Return the maker of a sub-orchestration's action; without an id each attempt has a generated one."""
    return lambda id: StartSubOrchestration(
        id=id,
        name=name,
        instance_id=instance_id or journal.child_id(id),
        input=text,
        version=version,
        tags=tags,
    )


def _activity_action(*, name: str, text: str | None, tags: dict[str, str] | None) -> Callable[[int], Action]:
    """Return the maker of an activity's action."""
    return lambda id: ScheduleTask(id=id, name=name, input=text, tags=tags)

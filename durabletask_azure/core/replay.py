"""One execution of an orchestrator: history in, decisions out.

``Execution`` keeps the orchestrator's coroutine alive between turns, so that a step costs the same however long the
history is; ``execute`` is the same without memory. Both are deterministic: what is decided depends on the definition
and the events alone, event by event, never on how they were batched. Neither raises for what user code does: its
errors, and deviations from the history, are decisions (``Failed``).

Committing, sending and keeping the history are left to others. After ``run`` the caller is taken to have recorded its
actions: a live execution never sees them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import msgspec

from durabletask_azure.core.actions import Completed, Completion, ContinuedAsNew, Decision, Failed
from durabletask_azure.core.context import OrchestrationContext
from durabletask_azure.core.definitions import OrchestratorDefinition
from durabletask_azure.core.driving import run_definition
from durabletask_azure.core.failures import FailureDetails, describe_failure
from durabletask_azure.core.history import (
    ContinuedEvent,
    EventRaisedEvent,
    EventSentEvent,
    ExecutionCompletedEvent,
    ExecutionResumedEvent,
    ExecutionRewoundEvent,
    ExecutionStartedEvent,
    ExecutionSuspendedEvent,
    ExecutionTerminatedEvent,
    Failure,
    HistoryEvent,
    OrchestratorStartedEvent,
    SubOrchestrationInstanceCompletedEvent,
    SubOrchestrationInstanceCreatedEvent,
    SubOrchestrationInstanceFailedEvent,
    TaskCompletedEvent,
    TaskFailedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
    TimerFiredEvent,
)
from durabletask_azure.core.journal import Journal, RuntimeOptions, Start
from durabletask_azure.core.loop import DeterministicLoop, LoopTask
from durabletask_azure.core.matching import check_all_matched, match_action
from durabletask_azure.core.payloads import BlobRef, Payload, resolve
from durabletask_azure.errors import (
    DurableTaskError,
    InstanceUnreadableError,
    NonDeterminismError,
    OrchestrationLimitError,
    PayloadCodecError,
)

__all__ = ["Execution", "RuntimeOptions", "execute"]

_FATAL = (InstanceUnreadableError, NonDeterminismError, OrchestrationLimitError, PayloadCodecError)
"""What ends an execution without its orchestrator being asked."""

_Input = (
    ExecutionStartedEvent
    | TaskCompletedEvent
    | TaskFailedEvent
    | SubOrchestrationInstanceCompletedEvent
    | SubOrchestrationInstanceFailedEvent
    | TimerFiredEvent
    | EventRaisedEvent
)


class Execution:
    """A live execution: ``replay`` at most once, then ``run`` for each turn, and ``close`` in the end.

    ``events_replayed`` counts the events fed by ``replay``: a live execution needs none.
    """

    def __init__(self, definition: OrchestratorDefinition, options: RuntimeOptions) -> None:
        self.definition = definition
        self._options = options
        self._journal = Journal(options)
        self._context = OrchestrationContext(self._journal)
        self._loop = DeterministicLoop(
            now=self._journal.seconds, start_timer=self._journal.start_timer, steps_max=options.steps_max
        )
        self._main: LoopTask | None = None
        self._completion: Completion | None = None
        self._ended = False
        self._suspended = False
        self._held: list[tuple[_Input, Mapping[str, str]]] = []
        self.events_replayed = 0

    @property
    def is_finished(self) -> bool:
        """Whether the execution has ended: by its decision, or because its history says so."""
        return self._ended or self._completion is not None

    def replay(self, past: Sequence[HistoryEvent], loaded: Mapping[str, str]) -> None:
        """Rebuild the state the orchestrator had after ``past``; ``loaded`` has the texts of spilled payloads."""
        self._loop.enter()
        try:
            for event in past:
                self._apply(event, loaded)
        except _FATAL as error:
            self._completion = self._failure(error)
        finally:
            self._loop.leave()
        self.events_replayed += len(past)

    def run(self, new: Sequence[HistoryEvent], loaded: Mapping[str, str]) -> Decision:
        """Feed one turn's events and return what the orchestrator decided.

        Only ``KeyboardInterrupt`` (the process is asked to end) passes through.
        """
        if len(new) == 2:
            opened, completed = new
            if type(completed) is TaskCompletedEvent and type(opened) is OrchestratorStartedEvent:
                decision = self._step(opened, completed)
                if decision is not None:
                    return decision
        journal = self._journal
        journal.begin_turn()
        if self._ended:
            return Decision(unfed=len(new))
        unfed = 0
        self._loop.enter()
        try:
            if self._completion is None:
                check_all_matched(journal)
            for index, event in enumerate(new):
                if self._ended or self._completion is not None:
                    unfed = len(new) - index
                    break
                self._apply(event, loaded)
        except _FATAL as error:
            self._completion = self._failure(error)
            journal.actions.clear()
        finally:
            self._loop.leave()
        return self._decision(unfed)

    def _step(self, opened: OrchestratorStartedEvent, completed: TaskCompletedEvent) -> Decision | None:
        """Do :meth:`run` for the usual turn: the orchestrator runs and is told of an inline result.

        Returns ``None``, with nothing done, if the turn is not the usual one.
        """
        journal, result = self._journal, completed.result
        if (
            self._ended
            or self._suspended
            or self._completion is not None
            or journal.unmatched
            or type(result) is BlobRef
        ):
            return None
        journal.begin_turn()
        journal.advance(opened.timestamp)
        self._loop.enter()
        try:
            journal.completed(completed.task_scheduled_id, result, is_child=False)
            self._come_to_rest()
        except _FATAL as error:
            self._completion = self._failure(error)
            journal.actions.clear()
        finally:
            self._loop.leave()
        return self._decision(0)

    def _decision(self, unfed: int) -> Decision:
        journal = self._journal
        return Decision(
            actions=tuple(journal.actions),
            completion=self._completion,
            custom_status=journal.custom_status,
            custom_status_set=journal.custom_status_set,
            cancelled_timers=tuple(journal.cancelled_timers),
            unfed=unfed,
        )

    def recorded(self, events: Sequence[HistoryEvent]) -> None:
        """Take note that ``events`` record the actions of the last ``run``: nothing to do, they count as recorded."""

    def close(self) -> None:
        """Drop the orchestrator's coroutines; what their clean-up code does has no effect."""
        self._journal.inert = True
        if self._loop.has_open_tasks:
            self._loop.enter()
            self._loop.close()
            self._loop.leave()
        else:
            self._loop.close()
        self._main = None

    # ------------------------------------------------------------ one event

    def _apply(self, event: HistoryEvent, loaded: Mapping[str, str]) -> None:
        if type(event) is OrchestratorStartedEvent:
            self._journal.advance(event.timestamp)
            return
        match event:
            case (
                TaskCompletedEvent()
                | ExecutionStartedEvent()
                | TaskFailedEvent()
                | TimerFiredEvent()
                | EventRaisedEvent()
                | SubOrchestrationInstanceCompletedEvent()
                | SubOrchestrationInstanceFailedEvent()
            ):
                if self._suspended:
                    self._held.append((event, loaded))
                elif not self.is_finished:
                    self._deliver(event, loaded)
            case (
                TaskScheduledEvent()
                | TimerCreatedEvent()
                | SubOrchestrationInstanceCreatedEvent()
                | EventSentEvent()
            ):
                match_action(self._journal, event)
            case ExecutionSuspendedEvent():
                self._suspended = True
            case ExecutionResumedEvent():
                self._resume()
            case ExecutionRewoundEvent():
                pass
            case ExecutionCompletedEvent() | ContinuedEvent() | ExecutionTerminatedEvent():
                self._ended = True
            case _:
                assert_never(event)

    def _resume(self) -> None:
        self._suspended = False
        held, self._held = self._held, []
        for event, loaded in held:
            if not self.is_finished:
                self._deliver(event, loaded)
            elif isinstance(event, EventRaisedEvent):
                # The orchestrator finished on an earlier one of the events it slept through.
                self._journal.keep_event(event, _text(event.input, loaded))
        if isinstance(self._completion, ContinuedAsNew) and self._journal.continued is not None:
            self._completion = self._journal.continued()

    def _deliver(self, event: _Input, loaded: Mapping[str, str]) -> None:
        """Tell the orchestrator of an event and let it run until it waits for the next."""
        journal = self._journal
        match event:
            case TaskCompletedEvent():
                result = event.result
                text = _text(result, loaded) if isinstance(result, BlobRef) else result
                journal.completed(event.task_scheduled_id, text, is_child=False)
            case ExecutionStartedEvent():
                self._begin(event, loaded)
            case TaskFailedEvent():
                journal.failed(event.task_scheduled_id, _details(event.failure, loaded), is_child=False)
            case TimerFiredEvent():
                journal.timer_fired(event.timer_id)
            case EventRaisedEvent():
                journal.event_raised(event, _text(event.input, loaded))
            case SubOrchestrationInstanceCompletedEvent():
                journal.completed(event.task_scheduled_id, _text(event.result, loaded), is_child=True)
            case SubOrchestrationInstanceFailedEvent():
                journal.failed(event.task_scheduled_id, _details(event.failure, loaded), is_child=True)
            case _:
                assert_never(event)
        self._come_to_rest()

    def _come_to_rest(self) -> None:
        """Let the orchestrator run until it waits for the next event, and take note if it ended."""
        journal = self._journal
        try:
            self._loop.run_until_idle()
        except RuntimeError as error:
            self._completion = self._failure(error)
            return
        if journal.broken is not None:
            raise journal.broken
        if self._loop.callback_error is not None:
            self._completion = self._failure(self._loop.callback_error)
        elif self._main is not None and self._main.done():
            self._completion = self._outcome(self._main)

    def _begin(self, event: ExecutionStartedEvent, loaded: Mapping[str, str]) -> None:
        if self._main is not None:
            return
        journal = self._journal
        tags = _text(event.tags, loaded)
        text = _text(event.input, loaded)
        if isinstance(text, str):
            text = self._options.codecs.opened(text)
        journal.start = Start(
            name=event.name,
            instance_id=event.instance_id,
            execution_id=event.execution_id,
            version=event.version,
            parent_instance_id=event.parent.instance_id if event.parent is not None else None,
            generation=event.generation,
            tags=_tags(tags) if isinstance(tags, str) else {},
        )
        for carried in event.carried:
            journal.event_raised(carried, _text(carried.input, loaded))
        self._main = self._loop.begin(run_definition(self.definition, self._context, self._options, text))

    # ------------------------------------------------------------ the end

    def _outcome(self, main: LoopTask) -> Completion:
        if main.cancelled():
            return Failed(
                FailureDetails(message="the orchestrator was cancelled", error_type="asyncio.CancelledError")
            )
        error = main.exception()
        if error is not None:
            return self._failure(error)
        if self._journal.continued is not None:
            return self._journal.continued()
        try:
            return Completed(self._options.codec.serialize(main.result()))
        except Exception as failure:  # the user's converter or to_json
            return self._failure(failure)

    def _failure(self, error: BaseException) -> Failed:
        describe = self._options.exception_properties
        properties: dict[str, Any] | None = None
        if describe is not None:
            try:
                properties = describe(error)
            except Exception:  # what only describes an error must not hide it
                properties = None
        text_bytes_max = self._options.failure_text_bytes_max
        failure = describe_failure(error, text_bytes_max=text_bytes_max, properties=properties)
        return Failed(self._options.codecs.encode_failure(failure))


def execute(
    definition: OrchestratorDefinition,
    past: Sequence[HistoryEvent],
    new: Sequence[HistoryEvent],
    *,
    options: RuntimeOptions,
    loaded: Mapping[str, str],
) -> Decision:
    """Return what the orchestrator decides on ``new`` after ``past``, with nothing kept."""
    execution = Execution(definition, options)
    try:
        execution.replay(past, loaded)
        return execution.run(new, loaded)
    finally:
        execution.close()


def _text(payload: Payload, loaded: Mapping[str, str]) -> str | Exception | None:
    """Return a payload's text, or the error that the orchestrator shall meet where it asks for the value."""
    try:
        return resolve(payload, loaded)
    except DurableTaskError as error:
        return error


def _details(failure: Failure, loaded: Mapping[str, str]) -> FailureDetails:
    if failure is None:
        return FailureDetails(message="failed without details", error_type="")
    if not isinstance(failure, BlobRef):
        return failure
    text = _text(failure, loaded)
    if not isinstance(text, str):
        return FailureDetails(message=f"failed; its details are missing: {text}", error_type="")
    try:
        return msgspec.json.decode(text, type=FailureDetails)
    except msgspec.DecodeError as error:
        return FailureDetails(message=f"failed; its details cannot be read: {error}", error_type="")


def _tags(text: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise InstanceUnreadableError(f"the tags that it was started with cannot be read: {error}") from error

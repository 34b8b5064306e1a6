"""Starting, asking about and steering orchestrations: ``TaskHubClient``; its async twin is in ``async_client.py``.

Both are thin: ``calls/`` checks and prepares each call, and the hub's thread runs it. Names, defaults and results are
those of Microsoft's ``durabletask``; what goes beyond is said with the method. A client owns nothing: the hub is closed
by whoever opened it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from durabletask_azure import history
from durabletask_azure.async_client import AsyncTaskHubClient
from durabletask_azure.bulk import BulkProgress, BulkStartResult, NewOrchestration, StartResult
from durabletask_azure.calls import ClientCalls
from durabletask_azure.calls.steps import carry_out
from durabletask_azure.core.callables import Startable
from durabletask_azure.core.codec import DataConverter
from durabletask_azure.errors import OrchestrationFailedError
from durabletask_azure.hosting import HubHost
from durabletask_azure.id_reuse import IdReuseAction, OrchestrationIdReusePolicy
from durabletask_azure.options import known_options
from durabletask_azure.query import (
    OrchestrationQuery,
    OrchestrationState,
    OrchestrationStatus,
    Page,
    PurgeInstancesResult,
)
from durabletask_azure.upkeep import DeadLetterInfo, HubStatistics, PartitionStatistics, WorkerStatistics

__all__ = [
    "AsyncTaskHubClient",
    "BulkProgress",
    "BulkStartResult",
    "DeadLetterInfo",
    "HubStatistics",
    "IdReuseAction",
    "NewOrchestration",
    "OrchestrationFailedError",
    "OrchestrationIdReusePolicy",
    "OrchestrationQuery",
    "OrchestrationState",
    "OrchestrationStatus",
    "Page",
    "PartitionStatistics",
    "PurgeInstancesResult",
    "StartResult",
    "TaskHubClient",
    "WorkerStatistics",
]

TInput = TypeVar("TInput")


class TaskHubClient:
    """Starts and steers orchestrations; every method waits for its answer.

    Args:
        hub: the task hub; it may be shared with workers and other clients.
        default_version: the version of orchestrations that are started without one.
        data_converter: how values become text; JSON if not given.
        logger: where the client reports what it does; ``durabletask_azure.client`` if not given.
    """

    @known_options("TaskHubClient")
    def __init__(
        self,
        hub: HubHost,
        *,
        default_version: str | None = None,
        data_converter: DataConverter | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self.default_version = default_version
        self._hub = hub
        self._calls = ClientCalls(
            hub,
            default_version=default_version,
            converter=data_converter,
            logger=logger,
        )

    def schedule_new_orchestration(
        self,
        orchestrator: Startable[TInput],
        *,
        input: TInput | None = None,
        instance_id: str | None = None,
        start_at: datetime | None = None,
        reuse_id_policy: OrchestrationIdReusePolicy | None = None,
        tags: Mapping[str, str] | None = None,
        version: str | None = None,
        raise_event: tuple[str, Any] | None = None,
    ) -> str:
        """Start an orchestration, given by function, class or name, and return its instance id (a new one if none is
        given).

        ``start_at`` is when it begins (a time without zone means UTC). ``raise_event`` is an event, name and data, that
        waits for the orchestration from the start. ``reuse_id_policy`` says what becomes of an instance that has the
        id; without it an ended one is replaced.

        Raises:
            OrchestrationAlreadyExistsError: an instance has that id, and may neither be replaced nor ignored.
            SerializationError, PayloadTooLargeError: a value cannot be stored; nothing was written.
            ConfigurationError, ArgumentTypeError: an argument is not allowed; nothing was written.
        """
        return self._hub.run(
            self._calls.steering.schedule(
                orchestrator,
                input=input,
                instance_id=instance_id,
                start_at=start_at,
                tags=tags,
                version=version,
                raise_event=raise_event,
                reuse_id_policy=reuse_id_policy,
            )
        )

    def schedule_new_orchestrations(
        self,
        requests: Iterable[NewOrchestration],
        *,
        on_progress: Callable[[BulkProgress], object] | None = None,
    ) -> BulkStartResult:
        """Start many orchestrations, and return what came of each request, in their order.

        A request that is refused does not keep the others from being started. Requests are taken one by one, so a
        generator of any length takes bounded memory (besides the results); ``on_progress`` is called after each portion
        of ``Settings.bulk_portion_max``, where this method was called.

        Raises:
            BulkInterruptedError: ``on_progress`` or ``requests`` raised, or the hub cannot be reached any more; its
                ``result`` is what came of the requests dealt with so far, the others were not started.
            ArgumentTypeError: an argument is not allowed; nothing was started.
        """
        return carry_out(self._hub, self._calls.bulk.start_all(requests, on_progress=on_progress))

    def get_orchestration_state(
        self, instance_id: str, *, fetch_payloads: bool = True
    ) -> OrchestrationState | None:
        """Return the state of an instance, ``None`` if there is no such instance; without ``fetch_payloads`` input and
        output are left out."""
        return self._hub.run(self._calls.reading.state(instance_id, fetch_payloads=fetch_payloads))

    def get_orchestration_history(
        self, instance_id: str, *, execution_id: str | None = None
    ) -> list[history.HistoryEvent]:
        """Return the events of an instance's current execution, or of an earlier one that is still kept.

        Raises:
            OrchestrationNotFoundError: there is no such instance or execution.
        """
        return self._hub.run(self._calls.reading.history(instance_id, execution_id=execution_id))

    def list_instance_ids(
        self,
        runtime_status: Sequence[OrchestrationStatus] | None = None,
        completed_time_from: datetime | None = None,
        completed_time_to: datetime | None = None,
        page_size: int | None = None,
        continuation_token: str | None = None,
    ) -> Page[str]:
        """Return a page of ids of ended instances, completed from a time on and before another; partition by partition,
        each in order of id. Raises ``ConfigurationError`` for a token that is not of this query."""
        return self._hub.run(
            self._calls.reading.list_ids(
                runtime_status=runtime_status,
                completed_time_from=completed_time_from,
                completed_time_to=completed_time_to,
                page_size=page_size,
                continuation_token=continuation_token,
            )
        )

    def get_all_orchestration_states(
        self, orchestration_query: OrchestrationQuery | None = None
    ) -> list[OrchestrationState]:
        """Return the states of all instances that fit, oldest first."""
        return self._hub.run(self._calls.reading.all_states(orchestration_query))

    def list_orchestration_states(
        self,
        orchestration_query: OrchestrationQuery | None = None,
        *,
        page_size: int | None = None,
        continuation_token: str | None = None,
    ) -> Page[OrchestrationState]:
        """Return a page of the states of all instances that fit; partition by partition, each in order of id.

        A page holds ``page_size`` states (1,000 at most, which is the default), fewer only at the end. An instance that
        is there all the time is on exactly one page.

        Raises:
            ConfigurationError: the token is not one that a page of this query came with.
        """
        pages = self._calls.reading.pages(orchestration_query, page_size=page_size)
        return self._hub.run(pages(continuation_token))

    def iter_orchestration_states(
        self, orchestration_query: OrchestrationQuery | None = None, *, page_size: int | None = None
    ) -> Iterator[OrchestrationState]:
        """Iterate over the states of all instances that fit, in the order of :meth:`list_orchestration_states`.

        One page of them is in memory at a time."""
        pages = self._calls.reading.pages(orchestration_query, page_size=page_size)

        def walk() -> Iterator[OrchestrationState]:
            token: str | None = None
            while True:
                page = self._hub.run(pages(token))
                yield from page.items
                token = page.continuation_token
                if token is None:
                    return

        return walk()

    def wait_for_orchestration_start(
        self, instance_id: str, *, fetch_payloads: bool = False, timeout: float | None = 60
    ) -> OrchestrationState | None:
        """Wait until an instance is not PENDING any more, at most ``timeout`` seconds (``None``: for ever).

        Raises:
            TimeoutError: it still is, or there is no such instance.
        """
        return self._hub.run(
            self._calls.reading.wait_for_start(instance_id, fetch_payloads=fetch_payloads, timeout=timeout)
        )

    def wait_for_orchestration_completion(
        self, instance_id: str, *, fetch_payloads: bool = True, timeout: float | None = 60
    ) -> OrchestrationState | None:
        """Wait until an instance has completed, failed or been terminated, at most ``timeout`` seconds (``None``: for
        ever); a suspended one has not.

        Raises:
            TimeoutError: it has not ended, or there is no such instance.
        """
        reading = self._calls.reading
        return reading.ended(
            self._hub.run(
                reading.wait_for_completion(instance_id, fetch_payloads=fetch_payloads, timeout=timeout)
            )
        )

    def raise_orchestration_event(
        self, instance_id: str, event_name: str, *, data: Any = None, event_id: str | None = None
    ) -> None:
        """Raise an event to an instance. Of several with the same ``event_id`` one counts.

        An instance that does not exist is no error: the event waits a while for it, and is dropped.

        Raises:
            SerializationError, PayloadTooLargeError: the data cannot be stored; nothing was sent.
        """
        self._hub.run(self._calls.steering.raise_event(instance_id, event_name, data=data, event_id=event_id))

    def terminate_orchestration(
        self, instance_id: str, *, output: Any = None, recursive: bool = True
    ) -> None:
        """Order an instance to end as TERMINATED with ``output``, and with ``recursive`` its sub-orchestrations too."""
        self._hub.run(self._calls.steering.terminate(instance_id, output=output, recursive=recursive))

    def suspend_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """Order an instance to pause; what arrives meanwhile waits."""
        self._hub.run(self._calls.steering.suspend(instance_id, reason=reason))

    def resume_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """Order a suspended instance to go on."""
        self._hub.run(self._calls.steering.resume(instance_id, reason=reason))

    def rewind_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """Take a failed instance up again where it failed, under a new execution id.

        What failed runs again, activities and (rewound themselves) sub-orchestrations, and so does all that was
        scheduled after the first failure it came from, also by parallel branches; what succeeded before it counts. The
        old history stays readable by its execution id. Needs a running worker; returns once the instance runs again.

        Raises:
            OrchestrationNotFoundError: there is no such instance.
            OrchestrationStateError: it is not FAILED.
            HubUnavailableError: no worker confirmed it within 30 s; it may still be done.
        """
        self._hub.run(self._calls.rewinding.rewind(instance_id, reason=reason))

    def reset_orchestration(
        self,
        instance_id: str,
        *,
        event_index: int,
        execution_id: str | None = None,
        keep_events: bool = True,
        reason: str | None = None,
    ) -> str:
        """Run an instance, ended or not, again from a point of its history on; return its new execution id.

        ``event_index`` is the place of an event in :meth:`get_orchestration_history`: the turn it belongs to, and what
        followed, runs again (the first turn together with the next if it scheduled nothing). What was scheduled before
        and is open there is scheduled again; sub-orchestrations started before answer the new execution, those started
        later are terminated. Results that came later are dropped; external events that came later are given again,
        unless ``keep_events`` is false. With ``execution_id`` nothing is done if the instance has moved on to another.

        Raises:
            OrchestrationNotFoundError: there is no such instance.
            OrchestrationStateError: it has not started, or has moved on to another execution.
            ConfigurationError: there is no event of that index.
            HubUnavailableError: no worker confirmed it within 30 s; it may still be done.
        """
        return self._hub.run(
            self._calls.rewinding.reset(
                instance_id,
                event_index=event_index,
                execution_id=execution_id,
                keep_events=keep_events,
                reason=reason,
            )
        )

    def restart_orchestration(self, instance_id: str, *, restart_with_new_instance_id: bool = False) -> str:
        """Start again what an ended instance ran, with its input, version and tags; return the instance id.

        It runs under its own id, in place of what has ended, or under a new one.

        Raises:
            OrchestrationNotFoundError: there is no such instance.
            OrchestrationStateError: it has not ended.
        """
        return self._hub.run(
            self._calls.rewinding.restart(
                instance_id, restart_with_new_instance_id=restart_with_new_instance_id
            )
        )

    def purge_orchestration(self, instance_id: str, recursive: bool = True) -> PurgeInstancesResult:
        """Remove an ended instance with its history and values, and with ``recursive`` its ended sub-orchestrations.

        One that is alive or unknown is left alone: the count is 0 then. Needs a running worker;
        ``is_complete`` is false if none confirmed within 30 s."""
        return self._hub.run(self._calls.purging.purge(instance_id, recursive=recursive))

    def purge_orchestrations_by(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: Sequence[OrchestrationStatus] | None = None,
        recursive: bool = False,
        timeout: timedelta | None = None,
        *,
        query: OrchestrationQuery | None = None,
        on_progress: Callable[[BulkProgress], object] | None = None,
    ) -> PurgeInstancesResult:
        """Remove all ended instances created from a time on and before another, of some statuses, or that fit a query.

        ``is_complete`` is false if ``timeout`` ended it or, without one, no worker confirmed a portion's purges within
        30 s (they may wait behind other messages); what was asked for is still done then. ``on_progress`` is called
        after each portion of ``Settings.bulk_portion_max``, where this method was called.

        Raises:
            BulkInterruptedError: ``on_progress`` raised; ``result`` says how many had been removed by then.
        """
        return carry_out(
            self._hub,
            self._calls.purging.purge_by(
                created_time_from=created_time_from,
                created_time_to=created_time_to,
                runtime_status=runtime_status,
                recursive=recursive,
                timeout=timeout,
                query=query,
                on_progress=on_progress,
            ),
        )

    def get_hub_statistics(self) -> HubStatistics:
        """Return counts of the whole hub: instances, waiting messages and activities, dead letters, workers, size.

        It reads an index entry per instance, message and task (70 ms of CPU per million on the embedded hub), for a
        look every some seconds."""
        return self._hub.run(self._calls.upkeep.statistics())

    def list_dead_letters(self) -> list[DeadLetterInfo]:
        """Return the messages and activity calls that could not be handled, the oldest first.

        A worker deals with each first: it fails the instance or the activity that is named, or says in the log that
        nothing can be read; then it keeps the newest ``Settings.dead_letters_kept_max`` here."""
        return self._hub.run(self._calls.upkeep.dead_letters())

    def redrive_dead_letter(self, letter_id: str) -> list[str]:
        """Send what a dead letter carries again, and forget the letter; return the new ids of its messages.

        What was answered meanwhile is not counted again: a message to an instance that has ended is dropped.

        Raises:
            DeadLetterNotFoundError: there is no such letter.
            DeadLetterUnreadableError: this version cannot read it; it is kept.
        """
        return self._hub.run(self._calls.upkeep.redrive(letter_id))

    def close(self) -> None:
        """Do nothing: the hub is closed by whoever opened it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

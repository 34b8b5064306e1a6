"""A client's calls, once for both clients: arguments checked, values serialised, the rest left as a coroutine to run.

Everything here runs in the caller's thread and raises there, before anything is written. What is returned runs on the
hub's thread and touches no user code.
"""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from durabletask_azure import history
from durabletask_azure.core.codec import DataConverter, checked_converter
from durabletask_azure.core.naming import (
    check_instance_id,
    check_name,
    check_tags,
    check_text,
    check_version,
    target_name,
)
from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.engine.operations import ClientOperations, StartRequest
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError, SerializationError
from durabletask_azure.hosting import HubHost, checked_host, checked_logger
from durabletask_azure.ports import InstanceFilter
from durabletask_azure.query import (
    OrchestrationQuery,
    OrchestrationState,
    OrchestrationStatus,
    Page,
    PurgeInstancesResult,
    before,
    check_statuses,
    moment_of,
    state_of,
    stored_statuses,
)

__all__ = ["ClientCalls"]

T = TypeVar("T")
Call = Callable[[], Coroutine[Any, Any, T]]

_TERMINAL = (OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED, OrchestrationStatus.TERMINATED)
_TOKEN_NUMBER_CHARS_MAX = 9


class ClientCalls:
    """The calls of one client on one hub."""

    def __init__(
        self,
        hub: HubHost,
        *,
        default_version: str | None,
        converter: DataConverter | None,
        logger: logging.Logger | None,
    ) -> None:
        host = checked_host(hub)
        self._operations = ClientOperations(host.ports, host.settings, lambda: uuid.uuid4().hex)
        self._settings = host.settings
        self._default_version = self._version(default_version)
        self._converter = checked_converter(converter)
        self._logger = checked_logger(logger, "durabletask_azure.client")

    def schedule(
        self,
        orchestrator: Any,
        *,
        input: Any,
        instance_id: str | None,
        start_at: datetime | None,
        tags: Mapping[str, str] | None,
        version: str | None,
        raise_event: tuple[str, Any] | None,
    ) -> Call[str]:
        """Start an orchestration."""
        event: tuple[str, str | None] | None = None
        if raise_event is not None:
            if not isinstance(raise_event, tuple) or len(raise_event) != 2:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ArgumentTypeError(f"raise_event must be a tuple (name, data), not {raise_event!r}")
            name, data = raise_event
            event = (self._name(name, "event name"), self._serialized(data))
        request = StartRequest(
            name=target_name(orchestrator, "orchestrator", chars_max=self._settings.name_chars_max),
            instance_id=uuid.uuid4().hex if instance_id is None else self._instance_id(instance_id),
            version=self._version(version) if version is not None else self._default_version,
            input=self._serialized(input),
            tags=check_tags(tags) or None,
            scheduled_start=moment_of(start_at, "start_at"),
            event=event,
        )
        self._logger.info("starting a new %r instance, id %r", request.name, request.instance_id)
        return lambda: self._operations.start(request)

    def state(self, instance_id: str, *, fetch_payloads: bool) -> Call[OrchestrationState | None]:
        """Return the state of an instance."""
        instance_id = self._instance_id(instance_id)

        async def call() -> OrchestrationState | None:
            report = await self._operations.instances.state(instance_id, fetch_payloads=fetch_payloads)
            return None if report is None else state_of(report, self._converter)

        return call

    def wait_for_start(
        self, instance_id: str, *, fetch_payloads: bool, timeout: float | None
    ) -> Call[OrchestrationState]:
        """Wait until an instance has left PENDING."""
        instance_id = self._instance_id(instance_id)
        timeout_s = _timeout(timeout)

        async def call() -> OrchestrationState:
            return await self._state(
                await self._operations.wait_for_start(instance_id, timeout_s), fetch_payloads
            )

        return call

    def wait_for_completion(
        self, instance_id: str, *, fetch_payloads: bool, timeout: float | None
    ) -> Call[OrchestrationState]:
        """Wait until an instance has ended."""
        instance_id = self._instance_id(instance_id)
        timeout_s = _timeout(timeout)

        async def call() -> OrchestrationState:
            row = await self._operations.wait_for_completion(instance_id, timeout_s)
            self._logger.info("instance %r has ended: %s", instance_id, row.status.value)
            return await self._state(row, fetch_payloads)

        return call

    def raise_event(
        self, instance_id: str, event_name: str, *, data: Any, event_id: str | None
    ) -> Call[None]:
        """Raise an event."""
        instance_id = self._instance_id(instance_id)
        name = self._name(event_name, "event name")
        if event_id is not None:
            self._name(event_id, "event_id")
        text = self._serialized(data)
        self._logger.info("raising event %r to instance %r", name, instance_id)
        return lambda: self._operations.raise_event(instance_id, name, text, event_id)

    def terminate(self, instance_id: str, *, output: Any, recursive: bool) -> Call[None]:
        """Terminate an instance."""
        instance_id = self._instance_id(instance_id)
        text = self._serialized(output)
        _check_flag(recursive)
        self._logger.info("terminating instance %r", instance_id)
        return lambda: self._operations.terminate(instance_id, text, recursive=recursive)

    def suspend(self, instance_id: str, *, reason: str | None) -> Call[None]:
        """Suspend an instance."""
        instance_id, reason = self._instance_id(instance_id), _text(reason, "reason")
        self._logger.info("suspending instance %r", instance_id)
        return lambda: self._operations.suspend(instance_id, reason)

    def resume(self, instance_id: str, *, reason: str | None) -> Call[None]:
        """Resume an instance."""
        instance_id, reason = self._instance_id(instance_id), _text(reason, "reason")
        self._logger.info("resuming instance %r", instance_id)
        return lambda: self._operations.resume(instance_id, reason)

    def history(self, instance_id: str, *, execution_id: str | None) -> Call[list[history.HistoryEvent]]:
        """Return the history of an execution."""
        instance_id = self._instance_id(instance_id)
        execution_id = _text(execution_id, "execution_id")

        async def call() -> list[history.HistoryEvent]:
            return history.readable(await self._operations.instances.history(instance_id, execution_id))

        return call

    def all_states(self, query: OrchestrationQuery | None) -> Call[list[OrchestrationState]]:
        """Return the states of all instances that fit a query, oldest first."""
        query = query if query is not None else OrchestrationQuery()
        if not isinstance(query, OrchestrationQuery):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(
                f"orchestration_query must be an OrchestrationQuery, not {type(query).__name__}"
            )
        where = InstanceFilter(
            id_prefix=_text(query.instance_id_prefix, "instance_id_prefix") or None,
            statuses=stored_statuses(check_statuses(query.runtime_status)),
            created_from=moment_of(query.created_time_from, "created_time_from"),
            created_to=before(moment_of(query.created_time_to, "created_time_to")),
        )
        page_size = self._page_size(query.max_instance_count, "max_instance_count")
        fetch = query.fetch_inputs_and_outputs

        async def call() -> list[OrchestrationState]:
            instances = self._operations.instances
            rows = [row async for page in instances.all(where, page_size=page_size) for row in page]
            rows.sort(key=lambda row: (row.created_at, row.instance_id))
            return [await self._state(row, fetch) for row in rows]

        return call

    def list_ids(
        self,
        *,
        runtime_status: Sequence[OrchestrationStatus] | None,
        completed_time_from: datetime | None,
        completed_time_to: datetime | None,
        page_size: int | None,
        continuation_token: str | None,
    ) -> Call[Page[str]]:
        """Return a page of ids of ended instances."""
        statuses = [status for status in check_statuses(runtime_status) or _TERMINAL if status in _TERMINAL]
        where = InstanceFilter(
            statuses=stored_statuses(statuses),
            completed_from=moment_of(completed_time_from, "completed_time_from"),
            completed_to=before(moment_of(completed_time_to, "completed_time_to")),
        )
        count_max = self._page_size(page_size, "page_size")
        token = _text(continuation_token, "continuation_token")
        # No hub has that many partitions; and Python refuses to read numbers of some thousand digits.
        if token is not None and len(token.partition(":")[0]) > _TOKEN_NUMBER_CHARS_MAX:
            raise ConfigurationError("continuation_token must be one that a page of this query came with")

        async def call() -> Page[str]:
            if not statuses:
                return Page([], None)
            page = await self._operations.instances.page(where, count_max=count_max, token=token)
            return Page([row.instance_id for row in page.rows], page.token)

        return call

    def purge(self, instance_id: str, *, recursive: bool) -> Call[PurgeInstancesResult]:
        """Purge an ended instance."""
        instance_id = self._instance_id(instance_id)
        _check_flag(recursive)
        self._logger.info("purging instance %r", instance_id)

        async def call() -> PurgeInstancesResult:
            return PurgeInstancesResult(*await self._operations.purge(instance_id, recursive=recursive))

        return call

    def purge_by(
        self,
        *,
        created_time_from: datetime | None,
        created_time_to: datetime | None,
        runtime_status: Sequence[OrchestrationStatus] | None,
        recursive: bool,
        timeout: timedelta | None,
    ) -> Call[PurgeInstancesResult]:
        """Purge all ended instances that fit."""
        if timeout is not None and not isinstance(timeout, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"timeout must be a timedelta, not {type(timeout).__name__}")
        if timeout is not None and timeout <= timedelta():
            raise ConfigurationError(f"timeout must be greater than zero, not {timeout}")
        _check_flag(recursive)
        statuses = [status for status in check_statuses(runtime_status) or _TERMINAL if status in _TERMINAL]
        where = InstanceFilter(
            statuses=stored_statuses(statuses),
            created_from=moment_of(created_time_from, "created_time_from"),
            created_to=before(moment_of(created_time_to, "created_time_to")),
        )
        timeout_s = timeout.total_seconds() if timeout is not None else None
        self._logger.info("purging instances by filter: %s", where)

        async def call() -> PurgeInstancesResult:
            if not statuses:
                return PurgeInstancesResult(0, True)
            return PurgeInstancesResult(
                *await self._operations.purge_by(where, recursive=recursive, timeout_s=timeout_s)
            )

        return call

    async def _state(self, row: InstanceRow, fetch_payloads: bool) -> OrchestrationState:
        report = await self._operations.instances.report(row, fetch_payloads=fetch_payloads)
        return state_of(report, self._converter)

    def _name(self, name: object, what: str) -> str:
        return check_name(name, what=what, chars_max=self._settings.name_chars_max)

    def _instance_id(self, instance_id: object) -> str:
        return check_instance_id(instance_id, chars_max=self._settings.instance_id_chars_max)

    def _version(self, version: str | None) -> str | None:
        return check_version(version, chars_max=self._settings.name_chars_max)

    def _serialized(self, value: Any) -> str | None:
        text: object = self._converter.serialize(value)
        try:
            return _text(text, "what the data converter returns")
        except ConfigurationError as error:
            raise SerializationError(f"a value cannot be stored: {error}") from error

    def _page_size(self, count: object, what: str) -> int:
        if count is None:
            return self._settings.page_size_max
        if isinstance(count, bool) or not isinstance(count, int):
            raise ArgumentTypeError(f"{what} must be a whole number, not {type(count).__name__}")
        if count < 1:
            raise ConfigurationError(
                f"{what} must be at least 1, not {count}; leave it out for {self._settings.page_size_max}"
            )
        return min(count, self._settings.page_size_max)


def _text(text: object, what: str) -> str | None:
    return None if text is None else check_text(text, what)


def _check_flag(recursive: object) -> None:
    if not isinstance(recursive, bool):
        raise ArgumentTypeError(f"recursive must be True or False, not {recursive!r}")


def _timeout(timeout: float | None) -> float:
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentTypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
    if not timeout >= 0:
        raise ConfigurationError(f"timeout must be 0 seconds or more, or None for ever, not {timeout}")
    return float(timeout)

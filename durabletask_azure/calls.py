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
from typing import Any, TypeVar, cast

from durabletask_azure import history
from durabletask_azure.core.codec import DataConverter
from durabletask_azure.core.naming import check_name, get_name
from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.engine.operations import ClientOperations, StartRequest
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.hosting import HubHost
from durabletask_azure.ports import InstanceFilter
from durabletask_azure.query import (
    OrchestrationQuery,
    OrchestrationState,
    OrchestrationStatus,
    Page,
    PurgeInstancesResult,
    aware_utc,
    state_of,
    stored_statuses,
)

__all__ = ["ClientCalls"]

T = TypeVar("T")
Call = Callable[[], Coroutine[Any, Any, T]]

_MICROSECOND = timedelta(microseconds=1)
_TERMINAL = (OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED, OrchestrationStatus.TERMINATED)
_RESERVED = "@"


class ClientCalls:
    """The calls of one client on one hub."""

    def __init__(
        self, host: HubHost, *, default_version: str | None, converter: DataConverter, logger: logging.Logger
    ) -> None:
        self._operations = ClientOperations(host.ports, host.settings, lambda: uuid.uuid4().hex)
        self._settings = host.settings
        self._default_version = default_version
        self._converter = converter
        self._logger = logger

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
            name, data = raise_event
            event = (self._name(name, "event name"), self._converter.serialize(data))
        if start_at is not None and not isinstance(start_at, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"start_at must be a datetime, not {type(start_at).__name__}")
        request = StartRequest(
            name=self._name(
                orchestrator if isinstance(orchestrator, str) else get_name(orchestrator), "orchestrator name"
            ),
            instance_id=uuid.uuid4().hex if instance_id is None else self._instance_id(instance_id),
            version=_text(version if version is not None else self._default_version, "version"),
            input=self._converter.serialize(input),
            tags=_tags(tags),
            scheduled_start=aware_utc(start_at) if start_at is not None else None,
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
            check_name(event_id, what="event_id", chars_max=self._settings.name_chars_max)
        text = self._converter.serialize(data)
        self._logger.info("raising event %r to instance %r", name, instance_id)
        return lambda: self._operations.raise_event(instance_id, name, text, event_id)

    def terminate(self, instance_id: str, *, output: Any, recursive: bool) -> Call[None]:
        """Terminate an instance."""
        instance_id = self._instance_id(instance_id)
        text = self._converter.serialize(output)
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

        async def call() -> list[history.HistoryEvent]:
            return history.readable(await self._operations.instances.history(instance_id, execution_id))

        return call

    def all_states(self, query: OrchestrationQuery | None) -> Call[list[OrchestrationState]]:
        """Return the states of all instances that fit a query, oldest first."""
        query = query if query is not None else OrchestrationQuery()
        where = InstanceFilter(
            id_prefix=query.instance_id_prefix or None,
            statuses=stored_statuses(query.runtime_status),
            created_from=_from(query.created_time_from),
            created_to=_before(query.created_time_to),
        )
        page_size = query.max_instance_count or self._settings.page_size_max
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
        statuses = [status for status in runtime_status or _TERMINAL if status in _TERMINAL]
        where = InstanceFilter(
            statuses=stored_statuses(statuses),
            completed_from=_from(completed_time_from),
            completed_to=_before(completed_time_to),
        )
        if page_size is not None and page_size < 0:
            raise ConfigurationError(f"page_size must not be negative, not {page_size}")
        count_max = min(page_size or self._settings.page_size_max, self._settings.page_size_max)

        async def call() -> Page[str]:
            if not statuses:
                return Page([], None)
            page = await self._operations.instances.page(where, count_max=count_max, token=continuation_token)
            return Page([row.instance_id for row in page.rows], page.token)

        return call

    def purge(self, instance_id: str, *, recursive: bool) -> Call[PurgeInstancesResult]:
        """Purge an ended instance."""
        instance_id = self._instance_id(instance_id)
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
        if timeout is not None and timeout <= timedelta():
            raise ConfigurationError("timeout must be greater than zero")
        statuses = [status for status in runtime_status or _TERMINAL if status in _TERMINAL]
        where = InstanceFilter(
            statuses=stored_statuses(statuses),
            created_from=_from(created_time_from),
            created_to=_before(created_time_to),
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
        return _storable(check_name(name, what=what, chars_max=self._settings.name_chars_max), what)

    def _instance_id(self, instance_id: object) -> str:
        chars_max = self._settings.instance_id_chars_max
        if not isinstance(instance_id, str):
            raise TypeError(f"an instance id must be a string, not {type(instance_id).__name__}")
        if not instance_id:
            raise ConfigurationError("an instance id must not be empty")
        if len(instance_id) > chars_max:
            raise ConfigurationError(
                f"an instance id may have {chars_max} characters, this one has {len(instance_id):,}"
            )
        if instance_id.startswith(_RESERVED):
            raise ConfigurationError(f"instance ids that start with {_RESERVED!r} are reserved for entities")
        return _storable(instance_id, "an instance id")


def _storable(text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{what} holds half a surrogate pair: {text!r}") from error
    return text


def _text(text: object, what: str) -> str | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a string, not {type(text).__name__}")
    return _storable(text, what)


def _tags(tags: object) -> dict[str, str] | None:
    if tags is None:
        return None
    if not isinstance(tags, Mapping):
        raise TypeError(f"tags must be a dict of strings, not {type(tags).__name__}")
    checked: dict[str, str] = {}
    for key, value in cast(Mapping[object, object], tags).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"tags must be strings, not {key!r}: {value!r}")
        checked[_storable(key, "a tag")] = _storable(value, "a tag")
    return checked or None


def _timeout(timeout: float | None) -> float:
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"timeout must be a number of seconds, not {timeout!r}")
    return float(timeout)


def _from(moment: datetime | None) -> datetime | None:
    return aware_utc(moment) if moment is not None else None


def _before(moment: datetime | None) -> datetime | None:
    """Return the last moment before one that does not belong to a range any more (stores include both ends)."""
    return aware_utc(moment) - _MICROSECOND if moment is not None else None

"""Calls that read: states, histories, lists, and waiting for an instance."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any

from durabletask_azure import history
from durabletask_azure.calls.arguments import TERMINAL, Arguments, Call, seconds, text_or_none
from durabletask_azure.calls.filters import select
from durabletask_azure.calls.histories import readable
from durabletask_azure.calls.operations import Operations
from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.crossing import Errand
from durabletask_azure.engine.instances import InstanceReport
from durabletask_azure.engine.operations import Asked
from durabletask_azure.ports import InstanceFilter
from durabletask_azure.query import (
    OrchestrationQuery,
    OrchestrationState,
    OrchestrationStatus,
    Page,
    before,
    check_statuses,
    moment_of,
    state_of,
    stored_statuses,
)

__all__ = ["ReadingCalls"]


class _Completion(Errand[InstanceReport]):
    """Waits for an instance's end."""

    __slots__ = ("_fetch_payloads", "_instance_id", "_operations", "_timeout_s")

    def __init__(
        self, operations: Operations, instance_id: str, timeout_s: float, fetch_payloads: bool
    ) -> None:
        self._operations = operations
        self._instance_id = instance_id
        self._timeout_s = timeout_s
        self._fetch_payloads = fetch_payloads

    def __call__(self) -> Coroutine[Any, Any, InstanceReport]:
        return self._operations().waiting.completion(
            self._instance_id, self._timeout_s, fetch_payloads=self._fetch_payloads
        )

    def at_once(self, asked: Asked[InstanceReport]) -> bool:
        return self._operations().waiting.completion_at_once(
            self._instance_id, self._timeout_s, asked, fetch_payloads=self._fetch_payloads
        )


class ReadingCalls:
    """Reads instances and waits for them."""

    def __init__(self, operations: Operations, arguments: Arguments, logger: logging.Logger) -> None:
        self._operations = operations
        self._arguments = arguments
        self._logger = logger

    def state(self, instance_id: str, *, fetch_payloads: bool) -> Call[OrchestrationState | None]:
        """Return the state of an instance."""
        instance_id = self._arguments.instance_id(instance_id)

        async def call() -> OrchestrationState | None:
            report = await self._operations().instances.state(instance_id, fetch_payloads=fetch_payloads)
            return None if report is None else self._seen(report)

        return call

    def wait_for_start(
        self, instance_id: str, *, fetch_payloads: bool, timeout: float | None
    ) -> Call[OrchestrationState]:
        """Wait until an instance has left PENDING."""
        instance_id = self._arguments.instance_id(instance_id)
        timeout_s = seconds(timeout)

        async def call() -> OrchestrationState:
            return await self._state(
                await self._operations().waiting.wait_for_start(instance_id, timeout_s), fetch_payloads
            )

        return call

    def wait_for_completion(
        self, instance_id: str, *, fetch_payloads: bool, timeout: float | None
    ) -> Call[InstanceReport]:
        """Wait until an instance has ended; :meth:`ended` makes a state of the answer."""
        instance_id = self._arguments.instance_id(instance_id)
        return _Completion(self._operations, instance_id, seconds(timeout), fetch_payloads)

    def ended(self, report: InstanceReport) -> OrchestrationState:
        """Return the state of an instance that was waited for."""
        self._logger.info("instance %r has ended: %s", report.row.instance_id, report.row.status.value)
        return self._seen(report)

    def history(self, instance_id: str, *, execution_id: str | None) -> Call[list[history.HistoryEvent]]:
        """Return the history of an execution."""
        instance_id = self._arguments.instance_id(instance_id)
        execution_id = text_or_none(execution_id, "execution_id")

        async def call() -> list[history.HistoryEvent]:
            report = await self._operations().instances.history(instance_id, execution_id)
            return readable(report, self._arguments.codecs)

        return call

    def all_states(self, query: OrchestrationQuery | None) -> Call[list[OrchestrationState]]:
        """Return the states of all instances that fit a query, oldest first."""
        chosen = select(query, self._arguments)

        async def call() -> list[OrchestrationState]:
            instances = self._operations().instances
            states: list[OrchestrationState] = []
            async for rows in instances.all(chosen.where, tags=chosen.tags, page_size=chosen.page_size):
                states += await self._states(rows, chosen.fetch_payloads)
            states.sort(key=lambda state: (state.created_at, state.instance_id))
            return states

        return call

    def pages(
        self, query: OrchestrationQuery | None, *, page_size: int | None
    ) -> Callable[[str | None], Call[Page[OrchestrationState]]]:
        """Return what makes the call for the page that a token asks for (``None``: the first)."""
        chosen = select(query, self._arguments)
        size = chosen.page_size if page_size is None else self._arguments.page_size(page_size, "page_size")

        def page(token: str | None) -> Call[Page[OrchestrationState]]:
            token = text_or_none(token, "continuation_token")

            async def call() -> Page[OrchestrationState]:
                instances = self._operations().instances
                found = await instances.page(chosen.where, tags=chosen.tags, count_max=size, token=token)
                return Page(await self._states(found.rows, chosen.fetch_payloads), found.token)

            return call

        return page

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
        statuses = [status for status in check_statuses(runtime_status) or TERMINAL if status in TERMINAL]
        where = InstanceFilter(
            statuses=stored_statuses(statuses),
            completed_from=moment_of(completed_time_from, "completed_time_from"),
            completed_to=before(moment_of(completed_time_to, "completed_time_to")),
        )
        count_max = self._arguments.page_size(page_size, "page_size")
        token = text_or_none(continuation_token, "continuation_token")

        async def call() -> Page[str]:
            if not statuses:
                return Page([], None)
            page = await self._operations().instances.page(where, count_max=count_max, token=token)
            return Page([row.instance_id for row in page.rows], page.token)

        return call

    async def _state(self, row: InstanceRow, fetch_payloads: bool) -> OrchestrationState:
        report = await self._operations().instances.report(row, fetch_payloads=fetch_payloads)
        return self._seen(report)

    async def _states(self, rows: Sequence[InstanceRow], fetch_payloads: bool) -> list[OrchestrationState]:
        reports = await self._operations().instances.reports(rows, fetch_payloads=fetch_payloads)
        return [self._seen(report) for report in reports]

    def _seen(self, report: InstanceReport) -> OrchestrationState:
        return state_of(report, self._arguments.plain, self._arguments.codecs)

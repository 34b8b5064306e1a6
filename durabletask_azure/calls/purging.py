"""Calls that remove ended instances."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from durabletask_azure.bulk import BulkProgress
from durabletask_azure.calls.arguments import TERMINAL, Arguments, Call, check_flag
from durabletask_azure.calls.filters import select
from durabletask_azure.calls.operations import Operations
from durabletask_azure.calls.steps import OnProgress, Steps, checked_progress
from durabletask_azure.engine.operations import FilteredPurge
from durabletask_azure.errors import ArgumentTypeError, BulkInterruptedError, ConfigurationError
from durabletask_azure.query import (
    OrchestrationQuery,
    OrchestrationStatus,
    PurgeInstancesResult,
    check_statuses,
    stored_statuses,
)

__all__ = ["PurgingCalls"]


class PurgingCalls:
    """Removes ended instances."""

    def __init__(self, operations: Operations, arguments: Arguments, logger: logging.Logger) -> None:
        self._operations = operations
        self._arguments = arguments
        self._logger = logger

    def purge(self, instance_id: str, *, recursive: bool) -> Call[PurgeInstancesResult]:
        """Purge an ended instance."""
        instance_id = self._arguments.instance_id(instance_id)
        check_flag(recursive)
        self._logger.info("purging instance %r", instance_id)

        async def call() -> PurgeInstancesResult:
            return PurgeInstancesResult(
                *await self._operations().purging.purge(instance_id, recursive=recursive)
            )

        return call

    def purge_by(
        self,
        *,
        created_time_from: datetime | None,
        created_time_to: datetime | None,
        runtime_status: Sequence[OrchestrationStatus] | None,
        recursive: bool,
        timeout: timedelta | None,
        query: OrchestrationQuery | None,
        on_progress: OnProgress | None,
    ) -> Steps[PurgeInstancesResult]:
        """Purge all ended instances that fit."""
        if timeout is not None and not isinstance(timeout, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"timeout must be a timedelta, not {type(timeout).__name__}")
        if timeout is not None and timeout <= timedelta():
            raise ConfigurationError(f"timeout must be greater than zero, not {timeout}")
        check_flag(recursive)
        checked_progress(on_progress)
        if query is None:
            query = OrchestrationQuery(
                created_time_from=created_time_from,
                created_time_to=created_time_to,
                runtime_status=list(check_statuses(runtime_status)),
            )
        elif not (created_time_from is None and created_time_to is None and runtime_status is None):
            raise ConfigurationError(
                "query has times of creation and statuses of its own: give either a query, or created_time_from,"
                " created_time_to and runtime_status"
            )
        chosen = select(query, self._arguments, "query")
        terminal = stored_statuses(TERMINAL)
        asked = [status for status in chosen.where.statuses or terminal if status in terminal]
        where = replace(chosen.where, statuses=tuple(asked))
        self._logger.info("purging instances by filter: %s, tags %s", where, chosen.tags)
        if not asked:
            return _nothing()

        def begin() -> FilteredPurge:
            return self._operations().purging.by_filter(
                where,
                tags=chosen.tags,
                recursive=recursive,
                timeout_s=timeout.total_seconds() if timeout is not None else None,
            )

        return _steps(begin, on_progress)


def _nothing() -> Steps[PurgeInstancesResult]:
    yield from ()
    return PurgeInstancesResult(0, True)


def _steps(begin: Callable[[], FilteredPurge], on_progress: OnProgress | None) -> Steps[PurgeInstancesResult]:
    async def first() -> FilteredPurge:
        return begin()

    purge: FilteredPurge = yield first
    more = True
    while more:
        more = yield purge.step
        if on_progress is None:
            continue
        try:
            on_progress(BulkProgress(purge.gone, purge.left, None))
        except Exception as error:
            result = PurgeInstancesResult(purge.gone, purge.is_complete)
            raise BulkInterruptedError(
                f"purging was interrupted after {purge.gone:,}: {error}", result
            ) from error
    return PurgeInstancesResult(purge.gone, purge.is_complete)

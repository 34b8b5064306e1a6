"""Calls that remove ended instances."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from durabletask_azure.calls.arguments import TERMINAL, Arguments, Call, check_flag
from durabletask_azure.engine.operations import ClientOperations
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError
from durabletask_azure.ports import InstanceFilter
from durabletask_azure.query import (
    OrchestrationStatus,
    PurgeInstancesResult,
    before,
    check_statuses,
    moment_of,
    stored_statuses,
)

__all__ = ["PurgingCalls"]


class PurgingCalls:
    """Removes ended instances."""

    def __init__(self, operations: ClientOperations, arguments: Arguments, logger: logging.Logger) -> None:
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
                *await self._operations.purging.purge(instance_id, recursive=recursive)
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
    ) -> Call[PurgeInstancesResult]:
        """Purge all ended instances that fit."""
        if timeout is not None and not isinstance(timeout, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"timeout must be a timedelta, not {type(timeout).__name__}")
        if timeout is not None and timeout <= timedelta():
            raise ConfigurationError(f"timeout must be greater than zero, not {timeout}")
        check_flag(recursive)
        statuses = [status for status in check_statuses(runtime_status) or TERMINAL if status in TERMINAL]
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
                *await self._operations.purging.purge_by(where, recursive=recursive, timeout_s=timeout_s)
            )

        return call

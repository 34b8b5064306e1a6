"""Calls that take an instance up again: rewind, reset, restart."""

from __future__ import annotations

import logging

from durabletask_azure.calls.arguments import Arguments, Call, check_flag, text_or_none
from durabletask_azure.calls.histories import turn_of
from durabletask_azure.calls.operations import Operations, new_id
from durabletask_azure.core.history import ExecutionStartedEvent
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError, OrchestrationStateError

__all__ = ["RewindingCalls"]


class RewindingCalls:
    """Takes instances up again."""

    def __init__(self, operations: Operations, arguments: Arguments, logger: logging.Logger) -> None:
        self._operations = operations
        self._arguments = arguments
        self._logger = logger

    def rewind(self, instance_id: str, *, reason: str | None) -> Call[None]:
        """Rewind a failed instance."""
        instance_id, reason = self._arguments.instance_id(instance_id), self._arguments.reason(reason)
        self._logger.info("rewinding instance %r", instance_id)

        async def call() -> None:
            await self._operations().rewinding.rewind(instance_id, reason)

        return call

    def reset(
        self,
        instance_id: str,
        *,
        event_index: int,
        execution_id: str | None,
        keep_events: bool,
        reason: str | None,
    ) -> Call[str]:
        """Reset an instance to a point of its history."""
        instance_id, reason = self._arguments.instance_id(instance_id), self._arguments.reason(reason)
        execution_id = text_or_none(execution_id, "execution_id")
        check_flag(keep_events, "keep_events")
        if isinstance(event_index, bool) or not isinstance(event_index, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"event_index must be a whole number, not {type(event_index).__name__}")
        if event_index < 0:
            raise ConfigurationError(f"event_index must be 0 or more, not {event_index}")
        self._logger.info("resetting instance %r to event %d", instance_id, event_index)

        async def call() -> str:
            events = await self._operations().instances.events(instance_id)
            started = next((event for event in events if isinstance(event, ExecutionStartedEvent)), None)
            if started is None:
                raise OrchestrationStateError(
                    f"the orchestration instance {instance_id!r} has not started: there is nothing to reset"
                )
            if execution_id is not None and execution_id != started.execution_id:
                raise OrchestrationStateError(
                    f"the orchestration instance {instance_id!r} has moved on to execution {started.execution_id}:"
                    f" only its current one can be reset, not {execution_id!r}"
                )
            return await self._operations().rewinding.reset(
                instance_id,
                execution_id=started.execution_id,
                turn=turn_of(events, event_index),
                keep_events=keep_events,
                reason=reason,
            )

        return call

    def restart(self, instance_id: str, *, restart_with_new_instance_id: bool) -> Call[str]:
        """Restart an ended instance."""
        instance_id = self._arguments.instance_id(instance_id)
        check_flag(restart_with_new_instance_id, "restart_with_new_instance_id")
        chosen = new_id() if restart_with_new_instance_id else instance_id
        self._logger.info("restarting instance %r as %r", instance_id, chosen)
        return lambda: self._operations().rewinding.restart(instance_id, new_instance_id=chosen)

"""Calls that start instances and steer them: schedule, raise, terminate, suspend, resume."""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Mapping
from datetime import datetime
from typing import Any

from durabletask_azure.calls.arguments import Arguments, Call, check_flag
from durabletask_azure.calls.operations import Operations, new_id
from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.naming import check_tags, target_name
from durabletask_azure.crossing import Errand
from durabletask_azure.engine.operations import Asked, StartRequest
from durabletask_azure.errors import ArgumentTypeError
from durabletask_azure.id_reuse import OrchestrationIdReusePolicy
from durabletask_azure.query import moment_of, stored_statuses

__all__ = ["SteeringCalls"]

_Statuses = tuple[RuntimeStatus, ...]


class SteeringCalls:
    """Starts and steers instances."""

    def __init__(self, operations: Operations, arguments: Arguments, logger: logging.Logger) -> None:
        self._operations = operations
        self._arguments = arguments
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
        reuse_id_policy: OrchestrationIdReusePolicy | None,
    ) -> Call[str]:
        """Start an orchestration."""
        replace, ignore = _USUAL_POLICY if reuse_id_policy is None else _stored_policy(reuse_id_policy)
        event: tuple[str, str | None] | None = None
        if raise_event is not None:
            if not isinstance(raise_event, tuple) or len(raise_event) != 2:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ArgumentTypeError(f"raise_event must be a tuple (name, data), not {raise_event!r}")
            name, data = raise_event
            event = (self._arguments.name(name, "event name"), self._arguments.serialized(data))
        request = StartRequest(
            name=target_name(orchestrator, "orchestrator", chars_max=self._arguments.settings.name_chars_max),
            instance_id=new_id() if instance_id is None else self._arguments.instance_id(instance_id),
            version=self._arguments.version(version)
            if version is not None
            else self._arguments.default_version,
            input=self._arguments.serialized(input),
            tags=check_tags(tags) or None,
            scheduled_start=moment_of(start_at, "start_at"),
            event=event,
            replace=replace,
            ignore=ignore,
        )
        self._logger.info("starting a new %r instance, id %r", request.name, request.instance_id)
        return _Start(self._operations, request)

    def raise_event(
        self, instance_id: str, event_name: str, *, data: Any, event_id: str | None
    ) -> Call[None]:
        """Raise an event."""
        instance_id = self._arguments.instance_id(instance_id)
        name = self._arguments.name(event_name, "event name")
        if event_id is not None:
            self._arguments.name(event_id, "event_id")
        text = self._arguments.serialized(data)
        self._logger.info("raising event %r to instance %r", name, instance_id)
        return lambda: self._operations().orders.raise_event(instance_id, name, text, event_id)

    def terminate(self, instance_id: str, *, output: Any, recursive: bool) -> Call[None]:
        """Terminate an instance."""
        instance_id = self._arguments.instance_id(instance_id)
        text = self._arguments.serialized(output)
        check_flag(recursive)
        self._logger.info("terminating instance %r", instance_id)
        return lambda: self._operations().orders.terminate(instance_id, text, recursive=recursive)

    def suspend(self, instance_id: str, *, reason: str | None) -> Call[None]:
        """Suspend an instance."""
        instance_id, reason = self._arguments.instance_id(instance_id), self._arguments.reason(reason)
        self._logger.info("suspending instance %r", instance_id)
        return lambda: self._operations().orders.suspend(instance_id, reason)

    def resume(self, instance_id: str, *, reason: str | None) -> Call[None]:
        """Resume an instance."""
        instance_id, reason = self._arguments.instance_id(instance_id), self._arguments.reason(reason)
        self._logger.info("resuming instance %r", instance_id)
        return lambda: self._operations().orders.resume(instance_id, reason)


class _Start(Errand[str]):
    """Starts an instance and gives its id."""

    __slots__ = ("_operations", "_request")

    def __init__(self, operations: Operations, request: StartRequest) -> None:
        self._operations = operations
        self._request = request

    def __call__(self) -> Coroutine[Any, Any, str]:
        return self._operations().starting.start(self._request)

    def at_once(self, asked: Asked[str]) -> bool:
        return self._operations().starting.start_at_once(self._request, asked)


def _stored_policy(policy: object) -> tuple[_Statuses, _Statuses]:
    """Return the statuses that are replaced and those that are left alone. Raises ``ArgumentTypeError``."""
    if not isinstance(policy, OrchestrationIdReusePolicy):
        raise ArgumentTypeError(
            f"reuse_id_policy must be an OrchestrationIdReusePolicy, not {type(policy).__name__}"
        )
    return stored_statuses(policy.replaceable_status), stored_statuses(policy.ignorable_status)


_USUAL_POLICY = _stored_policy(OrchestrationIdReusePolicy())

"""What an orchestrator sees of its execution, and all it can do.

Every method is deterministic: it depends on the history alone. Arguments are checked at the call, so a mistake shows
on the line that makes it. Names and meaning follow ``durabletask.task.OrchestrationContext``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from durabletask_azure.core.actions import ContinuedAsNew
from durabletask_azure.core.annotations import signature_of
from durabletask_azure.core.journal import Journal, activity_action, child_action
from durabletask_azure.core.naming import (
    check_instance_id,
    check_name,
    check_tags,
    check_version,
    target_name,
)
from durabletask_azure.core.replay_logger import ReplaySafeLogger
from durabletask_azure.core.retry import RetryPolicy
from durabletask_azure.core.tasks import CancellableTask, CompletableTask, TimerTask
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError

if TYPE_CHECKING:
    from logging import Logger  # noqa: TID251 - a type of an argument

__all__ = ["OrchestrationContext"]

T = TypeVar("T")

_UUID_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "durabletask_azure")


class OrchestrationContext:
    """One execution of an orchestration, as its orchestrator sees it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    # ------------------------------------------------------------ what is known

    @property
    def instance_id(self) -> str:
        """The instance's id."""
        return self._journal.start.instance_id

    @property
    def execution_id(self) -> str:
        """The id of this execution; each ``continue_as_new`` begins another one."""
        return self._journal.start.execution_id

    @property
    def parent_instance_id(self) -> str | None:
        """The instance that called this one as a sub-orchestration, ``None`` at the top."""
        return self._journal.start.parent_instance_id

    @property
    def version(self) -> str | None:
        """The version the orchestration was started with."""
        return self._journal.start.version

    @property
    def tags(self) -> dict[str, str]:
        """The instance's tags (a copy)."""
        return dict(self._journal.start.tags)

    @property
    def current_utc_datetime(self) -> datetime:
        """The orchestration's clock: UTC, without a time zone, the same in each replay."""
        return self._journal.now.replace(tzinfo=None)

    @property
    def is_replaying(self) -> bool:
        """Whether the code runs again to rebuild its state, not for the first time."""
        return self._journal.replaying

    # ------------------------------------------------------------ what can be done

    def set_custom_status(self, custom_status: Any) -> None:
        """Set the custom status that clients see; ``None`` clears it.

        Raises:
            SerializationError: it cannot be stored.
        """
        self._journal.check_alive()
        self._journal.custom_status = self._journal.options.codec.serialize(custom_status)
        self._journal.custom_status_set = True

    def create_timer(self, fire_at: datetime | timedelta) -> TimerTask:
        """Create a durable timer, due at a time (without a time zone: UTC) or after a span.

        Raises:
            TypeError: neither a ``datetime`` nor a ``timedelta``.
            ConfigurationError: before the year 1 or after the year 9999, in UTC.
        """
        try:
            return self._journal.create_timer(self._due(fire_at))
        except OverflowError as error:
            raise ConfigurationError(
                f"create_timer() takes times in the years 1 to 9999 in UTC, not {fire_at!r}"
            ) from error

    def _due(self, fire_at: datetime | timedelta) -> datetime:
        if isinstance(fire_at, timedelta):
            return self._journal.now + fire_at
        if not isinstance(fire_at, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(
                f"create_timer() takes a datetime or a timedelta, not {type(fire_at).__name__}"
            )
        return fire_at.replace(tzinfo=UTC) if fire_at.utcoffset() is None else fire_at.astimezone(UTC)

    @overload
    def call_activity(
        self,
        activity: Callable[..., Any] | Any,
        *,
        input: Any = ...,
        retry_policy: RetryPolicy | None = ...,
        tags: dict[str, str] | None = ...,
        return_type: type[T],
    ) -> CompletableTask[T]: ...

    @overload
    def call_activity(
        self,
        activity: Callable[..., Any] | Any,
        *,
        input: Any = ...,
        retry_policy: RetryPolicy | None = ...,
        tags: dict[str, str] | None = ...,
        return_type: None = ...,
    ) -> CompletableTask[Any]: ...

    def call_activity(
        self,
        activity: Callable[..., Any] | Any,
        *,
        input: Any = None,
        retry_policy: RetryPolicy | None = None,
        tags: dict[str, str] | None = None,
        return_type: Any = None,
    ) -> CompletableTask[Any]:
        """Schedule an activity, given by name, function, class or instance, and return the task of its result.

        ``return_type`` is what the result is rebuilt as; without it, the function's return annotation.

        Raises:
            TypeError: an argument is of a wrong type. ValueError: the name is not allowed.
            SerializationError: the input cannot be stored.
        """
        name = self._name(activity, "activity")
        if retry_policy is not None:
            _check_policy(retry_policy)
        make = activity_action(
            name=name, text=self._text(input), tags=None if tags is None else check_tags(tags)
        )
        if return_type is None and not isinstance(activity, str):
            return_type = _declared_result(activity)
        return self._journal.call(name, make, is_child=False, return_type=return_type, policy=retry_policy)

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: Callable[..., Any] | Any,
        *,
        input: Any = ...,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: type[T],
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: Callable[..., Any] | Any,
        *,
        input: Any = ...,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: None = ...,
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[Any]: ...

    def call_sub_orchestrator(
        self,
        orchestrator: Callable[..., Any] | Any,
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        return_type: Any = None,
        tags: dict[str, str] | None = None,
    ) -> CompletableTask[Any]:
        """Start a sub-orchestration and return the task of its result.

        Without ``instance_id`` the id comes from this execution's and the call's number; a retry gets a new one. The
        child has this instance's tags, overridden by ``tags``.

        Raises:
            TypeError: an argument is of a wrong type. ValueError: the name or instance id is not allowed.
            SerializationError: the input cannot be stored.
        """
        journal = self._journal
        name = self._name(orchestrator, "orchestrator")
        _check_policy(retry_policy)
        if instance_id is not None:
            self._check_instance_id(instance_id)
        merged = {**journal.start.tags, **(check_tags(tags) or {})}
        make = child_action(
            journal,
            name=name,
            instance_id=instance_id,
            text=self._text(input),
            version=self._version(version) or journal.options.default_version,
            tags=merged or None,
        )
        if return_type is None and not isinstance(orchestrator, str):
            return_type = _declared_result(orchestrator)
        return journal.call(name, make, is_child=True, return_type=return_type, policy=retry_policy)

    @overload
    def wait_for_external_event(
        self, name: str, *, data_type: type[T], timeout: timedelta | None = ...
    ) -> CancellableTask[T]: ...

    @overload
    def wait_for_external_event(
        self, name: str, *, data_type: None = ..., timeout: timedelta | None = ...
    ) -> CancellableTask[Any]: ...

    def wait_for_external_event(
        self, name: str, *, data_type: Any = None, timeout: timedelta | None = None
    ) -> CancellableTask[Any]:
        """Return the task of the next event of that name (case does not matter), also one that has already arrived.

        After ``timeout`` the task fails with ``TimeoutError``.

        Raises:
            TypeError: an argument is of a wrong type. ValueError: the name is not allowed.
        """
        check_name(name, what="event name", chars_max=self._journal.options.name_chars_max)
        if timeout is not None and not isinstance(timeout, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"timeout must be a timedelta, not {type(timeout).__name__}")
        return self._journal.wait_for_event(name, data_type, timeout)

    def send_event(self, instance_id: str, event_name: str, *, data: Any | None = None) -> None:
        """Send an event to another instance, without waiting for anything.

        Raises:
            TypeError: an argument is of a wrong type. ValueError: the name or instance id is not allowed.
            SerializationError: the data cannot be stored.
        """
        self._check_instance_id(instance_id)
        check_name(event_name, what="event name", chars_max=self._journal.options.name_chars_max)
        self._journal.send_event(instance_id, event_name, self._text(data))

    def continue_as_new(
        self, new_input: Any, *, save_events: bool = False, new_version: str | None = None
    ) -> None:
        """Begin a new execution of this instance, with an empty history, once the orchestrator returns.

        With ``save_events`` the events nobody has waited for go along. The last call counts; if the orchestrator
        raises, none does.

        Raises:
            SerializationError: the input cannot be stored.
        """
        journal = self._journal
        journal.check_alive()
        text = self._text(new_input)
        new_version = self._version(new_version)
        journal.continued = lambda: ContinuedAsNew(
            input=text, version=new_version, carried=journal.unconsumed_events() if save_events else ()
        )

    def new_uuid(self) -> str:
        """Return a new UUID that is the same in each replay."""
        journal = self._journal
        journal.uuids += 1
        # Not from the execution id: a rewind copies the history under a new one, and must see the same UUIDs.
        name = f"{self.instance_id}_{journal.start.generation}_{journal.now.isoformat()}_{journal.uuids}"
        return str(uuid.uuid5(_UUID_NAMESPACE, name))

    def create_replay_safe_logger(self, logger: Logger) -> ReplaySafeLogger:
        """Return a logger that passes on to ``logger`` only what is not a replay."""
        return ReplaySafeLogger(logger, lambda: self._journal.replaying)

    # ------------------------------------------------------------ checks

    def _text(self, value: Any) -> str | None:
        return self._journal.options.codec.serialize(value)

    def _name(self, target: Any, what: str) -> str:
        return target_name(target, what, chars_max=self._journal.options.name_chars_max)

    def _version(self, version: str | None) -> str | None:
        return check_version(version, chars_max=self._journal.options.name_chars_max)

    def _check_instance_id(self, instance_id: str) -> None:
        check_instance_id(instance_id, chars_max=self._journal.options.instance_id_chars_max)


def _check_policy(policy: object) -> None:
    if policy is not None and not isinstance(policy, RetryPolicy):
        raise ArgumentTypeError(f"retry_policy must be a RetryPolicy, not {type(policy).__name__}")


def _declared_result(target: Any) -> Any:
    if isinstance(target, type) or not callable(target):
        target = getattr(target, "run", None) or getattr(target, "execute", target)
    return signature_of(target).result

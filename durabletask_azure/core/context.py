"""What an orchestrator sees of its execution, and all it can do.

Every method is deterministic: it depends on the history alone. Arguments are checked at the call, so a mistake shows
on the line that makes it. Names and meaning follow ``durabletask.task.OrchestrationContext``.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from durabletask_azure.core.actions import ContinuedAsNew
from durabletask_azure.core.calling import CallingContext
from durabletask_azure.core.naming import (
    check_name,
)
from durabletask_azure.core.replay_logger import ReplaySafeLogger
from durabletask_azure.core.tasks import CancellableTask, TimerTask
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError

if TYPE_CHECKING:
    from logging import Logger  # noqa: TID251 - a type of an argument

__all__ = ["OrchestrationContext"]

T = TypeVar("T")
TInput = TypeVar("TInput")

_UUID_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "durabletask_azure")


class OrchestrationContext(CallingContext):
    """One execution of an orchestration, as its orchestrator sees it."""

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
        self._journal.custom_status = self._text(custom_status)
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

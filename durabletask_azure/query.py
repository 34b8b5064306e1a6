"""What clients ask for and get: states, queries, pages, and the results of a purge.

Times in a state are UTC without a time zone, as Microsoft's ``durabletask`` has them; times given without a zone mean
UTC, others are converted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Generic, TypeVar, cast, overload

from durabletask_azure.core.codec import DataConverter, JsonDataConverter
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.payload_codec import NO_CODECS, PayloadCodecs
from durabletask_azure.engine.instances import InstanceReport
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError, OrchestrationFailedError

__all__ = [
    "OrchestrationQuery",
    "OrchestrationState",
    "OrchestrationStatus",
    "Page",
    "PurgeInstancesResult",
    "before",
    "check_statuses",
    "moment_of",
    "state_of",
    "stored_statuses",
]

T = TypeVar("T")
_CONVERTER = JsonDataConverter()
_MICROSECOND = timedelta(microseconds=1)
_EARLIEST = datetime.min.replace(tzinfo=UTC)


class OrchestrationStatus(Enum):
    """The status of an orchestration instance; the numbers are those of the Durable Task protocol."""

    RUNNING = 0
    COMPLETED = 1
    FAILED = 3
    TERMINATED = 5
    CONTINUED_AS_NEW = 2
    PENDING = 6
    SUSPENDED = 7

    def __str__(self) -> str:
        return self.name


@dataclass
class OrchestrationState:
    """An orchestration instance as it was when asked.

    The serialised values are JSON text, ``None`` where there is no value or it was not fetched. Beyond what Microsoft's
    package has: ``pending_reason`` says why a PENDING instance does not start.
    """

    instance_id: str
    name: str
    runtime_status: OrchestrationStatus
    created_at: datetime
    last_updated_at: datetime
    serialized_input: str | None
    serialized_output: str | None
    serialized_custom_status: str | None
    failure_details: FailureDetails | None
    _data_converter: DataConverter = field(default=_CONVERTER, compare=False, repr=False)
    execution_id: str = ""
    version: str | None = None
    tags: dict[str, str] | None = None
    parent_instance_id: str | None = None
    scheduled_start: datetime | None = None
    completed_at: datetime | None = None
    pending_reason: str | None = None

    @overload
    def get_input(self, expected_type: type[T]) -> T | None: ...

    @overload
    def get_input(self, expected_type: None = ...) -> Any: ...

    def get_input(self, expected_type: type[Any] | None = None) -> Any:
        """Return the input, rebuilt as ``expected_type`` if one is given. Raises ``SerializationError``."""
        return self._data_converter.deserialize(self.serialized_input, expected_type)

    @overload
    def get_output(self, expected_type: type[T]) -> T | None: ...

    @overload
    def get_output(self, expected_type: None = ...) -> Any: ...

    def get_output(self, expected_type: type[Any] | None = None) -> Any:
        """Return the output, rebuilt as ``expected_type`` if one is given. Raises ``SerializationError``."""
        return self._data_converter.deserialize(self.serialized_output, expected_type)

    @overload
    def get_custom_status(self, expected_type: type[T]) -> T | None: ...

    @overload
    def get_custom_status(self, expected_type: None = ...) -> Any: ...

    def get_custom_status(self, expected_type: type[Any] | None = None) -> Any:
        """Return the custom status, rebuilt as ``expected_type`` if one is given. Raises ``SerializationError``."""
        return self._data_converter.deserialize(self.serialized_custom_status, expected_type)

    def raise_if_failed(self) -> None:
        """Raise ``OrchestrationFailedError`` with the failure's details if the orchestration has failed."""
        if self.failure_details is not None:
            raise OrchestrationFailedError(
                f"Orchestration '{self.instance_id}' failed: {self.failure_details.message}",
                self.failure_details,
            )


@dataclass
class OrchestrationQuery:
    """Which instances to list or purge; what is left out does not restrict, and all that is given has to fit.

    The first six fields are those of Microsoft's package. Ranges hold what lies at ``..._from`` or later and before
    ``..._to``. ``max_instance_count`` bounds what one request to the store fetches, as there: all instances that fit
    are returned. ``fetch_inputs_and_outputs`` says whether states have them.

    The rest goes beyond it. ``instance_ids``, ``names`` and ``versions`` hold one or more values, of which one has to
    match exactly (``None`` among the versions: an instance without one). ``tags`` are those an instance must have,
    among others. ``has_pending_reason``: whether something is said to keep it from starting, such as missing code.

    Ids and statuses are found by index; everything else is compared instance by instance, and tags only after an
    instance was read: over very many instances give a status or an id prefix with it.
    """

    created_time_from: datetime | None = None
    created_time_to: datetime | None = None
    runtime_status: list[OrchestrationStatus] | None = None
    max_instance_count: int | None = (1 << 31) - 1
    fetch_inputs_and_outputs: bool = False
    instance_id_prefix: str | None = None
    _: KW_ONLY
    instance_ids: Sequence[str] | None = None
    names: Sequence[str] | None = None
    versions: Sequence[str | None] | None = None
    tags: Mapping[str, str] | None = None
    last_updated_time_from: datetime | None = None
    last_updated_time_to: datetime | None = None
    completed_time_from: datetime | None = None
    completed_time_to: datetime | None = None
    has_pending_reason: bool | None = None


@dataclass
class PurgeInstancesResult:
    """How many instances a purge removed, and whether it was carried to its end."""

    deleted_instance_count: int
    is_complete: bool | None


@dataclass
class Page(Generic[T]):
    """A page of a listing; ``continuation_token`` asks for the next one, ``None`` means that this was the last."""

    items: list[T]
    continuation_token: str | None


def moment_of(value: object, what: str) -> datetime | None:
    """Return a time in UTC, or ``None`` for none; one without a time zone is taken to be UTC already.

    Raises:
        ArgumentTypeError: neither. ConfigurationError: before the year 1 or after the year 9999, in UTC.
    """
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise ArgumentTypeError(f"{what} must be a datetime, not {type(value).__name__}")
    try:
        return value.replace(tzinfo=UTC) if value.utcoffset() is None else value.astimezone(UTC)
    except OverflowError as error:
        raise ConfigurationError(f"{what} must lie in the years 1 to 9999 in UTC, not {value}") from error


_STORED = {status: RuntimeStatus[status.name] for status in OrchestrationStatus}
_SEEN = {stored: status for status, stored in _STORED.items()}


def before(moment: datetime | None) -> datetime | None:
    """Return the last moment before one that does not belong to a range any more (stores include both ends)."""
    return moment - _MICROSECOND if moment is not None and moment > _EARLIEST else moment


def check_statuses(statuses: object, what: str = "runtime_status") -> tuple[OrchestrationStatus, ...]:
    """Return the statuses asked for, none for ``None``. Raises ``ArgumentTypeError``."""
    if statuses is None:
        return ()
    if isinstance(statuses, (list, tuple, set, frozenset)):
        given = tuple(cast(Iterable[object], statuses))
        checked = tuple(status for status in given if isinstance(status, OrchestrationStatus))
        if len(checked) == len(given):
            # A set's order differs from process to process, and a page's token is of one order.
            return tuple(sorted(set(checked), key=lambda status: status.value))
    raise ArgumentTypeError(
        f"{what} must be a list of OrchestrationStatus ({', '.join(OrchestrationStatus.__members__)}),"
        f" not {statuses!r}"
    )


def stored_statuses(statuses: Iterable[OrchestrationStatus]) -> tuple[RuntimeStatus, ...]:
    """Return statuses as rows have them."""
    return tuple(map(_STORED.__getitem__, statuses))


def state_of(
    report: InstanceReport, converter: DataConverter, codecs: PayloadCodecs = NO_CODECS
) -> OrchestrationState:
    """Return what a client gets to see of an instance; what cannot be decoded stays encoded, and names its codec.

    ``converter`` is the user's own, without codecs.
    """
    row = report.row
    values = (report.input, report.output, report.custom_status)
    if not all(map(codecs.can_decode, values)):
        converter = codecs.converter(converter)  # which says what it lacks
    return OrchestrationState(
        instance_id=row.instance_id,
        name=row.name,
        runtime_status=_SEEN[row.status],
        created_at=_naive(row.created_at),
        last_updated_at=_naive(row.updated_at),
        serialized_input=codecs.readable(report.input),
        serialized_output=codecs.readable(report.output),
        serialized_custom_status=codecs.readable(report.custom_status),
        failure_details=None if report.failure is None else codecs.readable_failure(report.failure),
        _data_converter=converter,
        execution_id=row.execution_id,
        version=row.version,
        tags=report.tags,
        parent_instance_id=row.parent.instance_id if row.parent is not None else None,
        scheduled_start=_naive(row.scheduled_start) if row.scheduled_start is not None else None,
        completed_at=_naive(row.completed_at) if row.completed_at is not None else None,
        pending_reason=row.reason,
    )


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)

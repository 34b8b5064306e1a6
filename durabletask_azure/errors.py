"""Every error this package raises on purpose, as one tree.

    DurableTaskError
    ├── OrchestrationError                      what goes wrong with an orchestration or its tasks
    │   ├── TaskFailedError                     an awaited activity or sub-orchestration failed
    │   ├── OrchestrationFailedError            a client asked for the result of a failed orchestration
    │   ├── TaskCancelledError                  the result of a cancelled task was asked for
    │   ├── NonDeterminismError                 replay met other actions than the history records
    │   ├── OrchestrationStateError             an operation does not fit the state the orchestration is in
    │   ├── OrchestrationLimitError             an orchestration is over a limit of the settings
    │   ├── OrchestrationNotFoundError          there is no such instance
    │   ├── OrchestrationAlreadyExistsError     the instance id is taken
    │   ├── OrchestratorNotRegisteredError      no orchestrator of that name is registered
    │   ├── ActivityNotRegisteredError          no activity of that name is registered
    │   ├── NonRetriableError                   raised by user code: a retry policy must not retry this
    │   └── SerializationError                  a value cannot be turned into JSON, or not back into its type
    ├── TaskHubError                            what goes wrong with the hub that carries them
    │   ├── PartitionLostError                  another worker owns the partition now
    │   ├── CommitRefusedError                  the store refused a commit for another reason than the fence
    │   ├── ThrottledError                      the service asks to come back later
    │   ├── HubUnavailableError                 the service cannot be reached, or the outcome of a call is unknown
    │   │   ├── HubAccessError                  a service refuses the key, token or rights
    │   │   └── HistoryMissingError             a part of an instance's history is not where its row says
    │   ├── PayloadCodecError                   a codec failed, or the hub was not given the one a value needs
    │   ├── PayloadTooLargeError                a value is over the payload cap
    │   ├── PayloadMissingError                 a spilled value is gone or damaged
    │   ├── InstanceUnreadableError             this version cannot read what is stored of an instance
    │   ├── TaskHubNotFoundError                there is no such hub, or a part of it is missing
    │   ├── TaskHubExistsError                  there is such a hub already
    │   ├── QueueFullError                      a queue is at its size limit
    │   ├── DeadLetterNotFoundError             there is no kept dead letter of that id
    │   ├── DeadLetterUnreadableError           this version cannot read what a dead letter carries
    │   ├── BulkInterruptedError                a call for many instances ended early; has what it came to
    │   ├── WorkerProcessError                  a process for activities does not start
    │   └── WorkerStateError                    the call does not fit a worker that runs
    └── ConfigurationError                      a setting, name or argument is not allowed; says what is
        ├── ArgumentTypeError                   an argument is of the wrong type, or there is none of that name
        ├── InvalidQueueSizeError               a queue size other than 1024, 2048, 3072, 4096 or 5120 MB
        ├── HubMismatchError                    the hub's queues or partitions are other than the settings say
        └── SchemaVersionError                  the hub was written by a newer version of this package

Names shared with Microsoft's ``durabletask`` package mean the same here. Errors that adapters meet in an SDK are
translated at the edge with ``raise ... from``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durabletask_azure.core.failures import FailureDetails
    from durabletask_azure.ports.provisioning import HubFinding

__all__ = [
    "ActivityNotRegisteredError",
    "ArgumentTypeError",
    "BulkInterruptedError",
    "CommitRefusedError",
    "ConfigurationError",
    "DeadLetterNotFoundError",
    "DeadLetterUnreadableError",
    "DurableTaskError",
    "HistoryMissingError",
    "HubAccessError",
    "HubMismatchError",
    "HubUnavailableError",
    "InstanceUnreadableError",
    "InvalidQueueSizeError",
    "NonDeterminismError",
    "NonRetriableError",
    "OrchestrationAlreadyExistsError",
    "OrchestrationError",
    "OrchestrationFailedError",
    "OrchestrationLimitError",
    "OrchestrationNotFoundError",
    "OrchestrationStateError",
    "OrchestratorNotRegisteredError",
    "PartitionLostError",
    "PayloadCodecError",
    "PayloadMissingError",
    "PayloadTooLargeError",
    "QueueFullError",
    "SchemaVersionError",
    "SerializationError",
    "TaskCancelledError",
    "TaskFailedError",
    "TaskHubError",
    "TaskHubExistsError",
    "TaskHubNotFoundError",
    "ThrottledError",
    "WorkerProcessError",
    "WorkerStateError",
]


_TEXT_BYTES_MAX = 16 * 1024


class DurableTaskError(Exception):
    """The root of every error this package raises on purpose."""


class OrchestrationError(DurableTaskError):
    """Something went wrong with an orchestration or one of its tasks."""


class TaskFailedError(OrchestrationError):
    """An activity or sub-orchestration that an orchestrator awaited has failed.

    ``details`` holds the recorded failure: type, message, stack trace, inner failure and custom properties. It may be
    given as the exception itself, which is what a test of an orchestrator has at hand.
    """

    def __init__(self, message: str, details: FailureDetails | Exception) -> None:
        super().__init__(message)
        if isinstance(details, Exception):
            from durabletask_azure.core.failures import describe_failure  # it imports this module

            details = describe_failure(details, text_bytes_max=_TEXT_BYTES_MAX)
        self._details = details

    @property
    def details(self) -> FailureDetails:
        """The recorded failure of the task."""
        return self._details


class OrchestrationFailedError(OrchestrationError):
    """The orchestration whose result was asked for has failed."""

    def __init__(self, message: str, failure_details: FailureDetails) -> None:
        super().__init__(message)
        self._failure_details = failure_details

    @property
    def failure_details(self) -> FailureDetails:
        """The recorded failure of the orchestration."""
        return self._failure_details


class TaskCancelledError(OrchestrationError):
    """The result of a cancelled durable task was asked for."""


class NonDeterminismError(OrchestrationError):
    """Replay met other actions than the history records: the orchestrator's code changed or is not deterministic."""


class OrchestrationStateError(OrchestrationError):
    """The operation does not fit the state the orchestration is in."""


class OrchestrationLimitError(OrchestrationError):
    """An orchestration is over a limit of the settings: too long a history, or too much open at once."""


class OrchestrationNotFoundError(OrchestrationError):
    """There is no orchestration instance of that id."""


class OrchestrationAlreadyExistsError(OrchestrationError):
    """An orchestration instance of that id exists, and the id-reuse policy does not allow to replace it."""


class OrchestratorNotRegisteredError(OrchestrationError, ValueError):
    """No orchestrator of that name is registered with the worker."""


class ActivityNotRegisteredError(OrchestrationError, ValueError):
    """No activity of that name is registered with the worker."""


class NonRetriableError(OrchestrationError):
    """Raised by an activity or orchestrator whose failure no retry policy shall retry."""


class SerializationError(OrchestrationError, TypeError):
    """A value cannot be turned into JSON, or JSON not into the annotated type."""


class TaskHubError(DurableTaskError):
    """Something went wrong with the task hub that carries the work."""


class PartitionLostError(TaskHubError):
    """Another worker owns the partition: everything held of it must be dropped."""


class CommitRefusedError(TaskHubError):
    """The store refused a commit whose fence was good.

    ``row_key`` names the offending row where the store said which (``None`` if it did not), and ``conflict`` is true
    if that row's ETag did not match or an inserted row existed (412, 409), false for everything else (too large, bad).
    """

    def __init__(self, message: str, *, row_key: str | None = None, conflict: bool = False) -> None:
        super().__init__(message)
        self.row_key = row_key
        self.conflict = conflict


class ThrottledError(TaskHubError):
    """The service asks to come back later; ``retry_after`` is how long it said, if it did."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class HubUnavailableError(TaskHubError):
    """The service cannot be reached, failed, or did not answer: the call may or may not have taken effect."""


class HubAccessError(HubUnavailableError):
    """A service refuses the key, signature or token, or the right that a call needs; the message names the setting.

    Work that meets it while the hub is open waits and tries again, as for a service that cannot be reached.
    """


class HistoryMissingError(HubUnavailableError):
    """A part of an instance's history is not there: its row is of a moment ago, or the part is lost."""


class PayloadCodecError(TaskHubError):
    """A payload codec failed, or a value was encoded with one that this hub was not opened with."""


class PayloadTooLargeError(TaskHubError, ValueError):
    """A value is larger than ``Settings.payload_bytes_max``."""


class PayloadMissingError(TaskHubError):
    """A spilled value is gone from the payload store, or not what was written."""


class InstanceUnreadableError(TaskHubError):
    """The stored row or history of an instance is damaged, or of a version that this one does not know."""


class TaskHubNotFoundError(TaskHubError, LookupError):
    """There is no task hub of that name, or a part of it is missing; the message says which, and what creates it."""


class TaskHubExistsError(TaskHubError):
    """There is a task hub of that name already."""


class QueueFullError(TaskHubError):
    """A queue has reached its size limit, or as much waits in an embedded hub as its settings allow.

    A client that gets it has waited for ``Settings.queue_full_wait_s``, and nothing of its call was done."""


class DeadLetterNotFoundError(TaskHubError, LookupError):
    """There is no kept dead letter of that id: it was redriven, or newer ones took its place."""


class DeadLetterUnreadableError(TaskHubError):
    """A dead letter carries what this version cannot read; a newer one may."""


class BulkInterruptedError(TaskHubError):
    """A call for many instances ended before its end; ``__cause__`` says why.

    What it had done stays done: ``result`` is what the call would have returned of that.
    """

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self._result = result

    @property
    def result(self) -> Any:
        """A ``BulkStartResult`` or a ``PurgeInstancesResult``, as the call returns it."""
        return self._result


class WorkerProcessError(TaskHubError):
    """A process for activities ended before it could run one: its main module cannot be imported there."""


class WorkerStateError(TaskHubError, RuntimeError):
    """The call does not fit the worker's state: it is running, and has to be stopped first."""


class ConfigurationError(DurableTaskError, ValueError):
    """A setting, name or argument is not allowed; the message names what is."""


class ArgumentTypeError(ConfigurationError, TypeError):
    """An argument is of the wrong type, or there is no argument of that name; the message says what is taken."""


class InvalidQueueSizeError(ConfigurationError):
    """A Service Bus queue size other than 1024, 2048, 3072, 4096 or 5120 MB."""


class HubMismatchError(ConfigurationError):
    """A hub that exists has other properties than the settings say.

    ``differences`` holds a ``HubFinding`` for each: part, field, wanted, actual and remedy.
    """

    def __init__(self, message: str, differences: tuple[HubFinding, ...]) -> None:
        super().__init__(message)
        self._differences = differences

    @property
    def differences(self) -> tuple[HubFinding, ...]:
        """What differs, field by field."""
        return self._differences


class SchemaVersionError(ConfigurationError):
    """The task hub carries a schema version that this version of the package does not know."""

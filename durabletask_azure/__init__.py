"""Durable orchestrations for Python, on an embedded hub for one machine or on Azure.

Public names are imported when they are first used, so importing the package costs next to nothing. The modules users
know from Microsoft's ``durabletask`` are here as well: ``from durabletask_azure import task, client, worker, history``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durabletask_azure._version import __version__
    from durabletask_azure.client import AsyncTaskHubClient, TaskHubClient
    from durabletask_azure.core.codec import DataConverter, JsonDataConverter
    from durabletask_azure.core.payload_codec import PayloadCodec
    from durabletask_azure.errors import (
        ActivityNotRegisteredError,
        ArgumentTypeError,
        CommitRefusedError,
        ConfigurationError,
        DurableTaskError,
        HubUnavailableError,
        InvalidQueueSizeError,
        NonDeterminismError,
        NonRetriableError,
        OrchestrationAlreadyExistsError,
        OrchestrationError,
        OrchestrationFailedError,
        OrchestrationNotFoundError,
        OrchestrationStateError,
        OrchestratorNotRegisteredError,
        PartitionLostError,
        PayloadCodecError,
        PayloadMissingError,
        PayloadTooLargeError,
        QueueFullError,
        SchemaVersionError,
        SerializationError,
        TaskCancelledError,
        TaskFailedError,
        TaskHubError,
        ThrottledError,
        WorkerProcessError,
        WorkerStateError,
    )
    from durabletask_azure.hub import TaskHub
    from durabletask_azure.query import (
        OrchestrationQuery,
        OrchestrationState,
        OrchestrationStatus,
        Page,
        PurgeInstancesResult,
    )
    from durabletask_azure.settings import Settings
    from durabletask_azure.task import (
        ActivityContext,
        CancellableTask,
        CompletableTask,
        FailureDetails,
        OrchestrationContext,
        ReplaySafeLogger,
        RetryPolicy,
        Task,
        TaskActivity,
        TaskOrchestration,
        TimerTask,
        when_all,
        when_any,
    )
    from durabletask_azure.worker import ConcurrencyOptions, ExceptionPropertiesProvider, TaskHubWorker

__all__ = [
    "ActivityContext",
    "ActivityNotRegisteredError",
    "ArgumentTypeError",
    "AsyncTaskHubClient",
    "CancellableTask",
    "CommitRefusedError",
    "CompletableTask",
    "ConcurrencyOptions",
    "ConfigurationError",
    "DataConverter",
    "DurableTaskError",
    "ExceptionPropertiesProvider",
    "FailureDetails",
    "HubUnavailableError",
    "InvalidQueueSizeError",
    "JsonDataConverter",
    "NonDeterminismError",
    "NonRetriableError",
    "OrchestrationAlreadyExistsError",
    "OrchestrationContext",
    "OrchestrationError",
    "OrchestrationFailedError",
    "OrchestrationNotFoundError",
    "OrchestrationQuery",
    "OrchestrationState",
    "OrchestrationStateError",
    "OrchestrationStatus",
    "OrchestratorNotRegisteredError",
    "Page",
    "PartitionLostError",
    "PayloadCodec",
    "PayloadCodecError",
    "PayloadMissingError",
    "PayloadTooLargeError",
    "PurgeInstancesResult",
    "QueueFullError",
    "ReplaySafeLogger",
    "RetryPolicy",
    "SchemaVersionError",
    "SerializationError",
    "Settings",
    "Task",
    "TaskActivity",
    "TaskCancelledError",
    "TaskFailedError",
    "TaskHub",
    "TaskHubClient",
    "TaskHubError",
    "TaskHubWorker",
    "TaskOrchestration",
    "ThrottledError",
    "TimerTask",
    "WorkerProcessError",
    "WorkerStateError",
    "__version__",
    "when_all",
    "when_any",
]

_HOME = {
    "ActivityContext": "task",
    "ActivityNotRegisteredError": "errors",
    "ArgumentTypeError": "errors",
    "AsyncTaskHubClient": "client",
    "CancellableTask": "task",
    "CommitRefusedError": "errors",
    "CompletableTask": "task",
    "ConcurrencyOptions": "worker",
    "ConfigurationError": "errors",
    "DataConverter": "core.codec",
    "DurableTaskError": "errors",
    "ExceptionPropertiesProvider": "worker",
    "FailureDetails": "task",
    "HubUnavailableError": "errors",
    "InvalidQueueSizeError": "errors",
    "JsonDataConverter": "core.codec",
    "NonDeterminismError": "errors",
    "NonRetriableError": "errors",
    "OrchestrationAlreadyExistsError": "errors",
    "OrchestrationContext": "task",
    "OrchestrationError": "errors",
    "OrchestrationFailedError": "errors",
    "OrchestrationNotFoundError": "errors",
    "OrchestrationQuery": "query",
    "OrchestrationState": "query",
    "OrchestrationStateError": "errors",
    "OrchestrationStatus": "query",
    "OrchestratorNotRegisteredError": "errors",
    "Page": "query",
    "PartitionLostError": "errors",
    "PayloadCodec": "core.payload_codec",
    "PayloadCodecError": "errors",
    "PayloadMissingError": "errors",
    "PayloadTooLargeError": "errors",
    "PurgeInstancesResult": "query",
    "QueueFullError": "errors",
    "ReplaySafeLogger": "task",
    "RetryPolicy": "task",
    "SchemaVersionError": "errors",
    "SerializationError": "errors",
    "Settings": "settings",
    "Task": "task",
    "TaskActivity": "task",
    "TaskCancelledError": "errors",
    "TaskFailedError": "errors",
    "TaskHub": "hub",
    "TaskHubClient": "client",
    "TaskHubError": "errors",
    "TaskHubWorker": "worker",
    "TaskOrchestration": "task",
    "ThrottledError": "errors",
    "TimerTask": "task",
    "WorkerProcessError": "errors",
    "WorkerStateError": "errors",
    "__version__": "_version",
    "when_all": "task",
    "when_any": "task",
}


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""What users import is pinned: names may be added on purpose, and never go by accident."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import subprocess
import sys

import pytest

import durabletask_azure
from durabletask_azure import (
    AsyncTaskHubClient,
    ConcurrencyOptions,
    OrchestrationQuery,
    OrchestrationState,
    OrchestrationStatus,
    TaskHub,
    TaskHubClient,
    TaskHubWorker,
    client,
    history,
)

PACKAGE = {
    *("ActivityWorkItemFilter", "EntityWorkItemFilter", "OrchestrationWorkItemFilter", "WorkItemFilters"),
    *("VersionFailureStrategy", "VersionMatchStrategy", "VersioningOptions"),
    *(
        "ActivityContext",
        "ActivityNotRegisteredError",
        "ArgumentTypeError",
        "AsyncTaskHubClient",
        "AzureSettings",
        "CancellableTask",
        "CommitRefusedError",
    ),
    *("BulkInterruptedError", "BulkProgress", "BulkStartResult", "NewOrchestration", "StartResult"),
    *("DeadLetterInfo", "DeadLetterNotFoundError", "DeadLetterUnreadableError"),
    *("HubStatistics", "PartitionStatistics", "WorkerStatistics"),
    *("CompletableTask", "ConcurrencyOptions", "ConfigurationError", "DataConverter", "DurableTaskError"),
    *("ExceptionPropertiesProvider", "FailureDetails", "HubUnavailableError", "InvalidQueueSizeError"),
    *("HubAccessError", "HubMismatchError", "TaskHubExistsError", "TaskHubNotFoundError"),
    *("HubFinding", "HubRepair", "HubReport"),
    *("JsonDataConverter", "NonDeterminismError", "NonRetriableError", "OrchestrationAlreadyExistsError"),
    *("OrchestrationContext", "OrchestrationError", "OrchestrationFailedError", "OrchestrationNotFoundError"),
    *("OrchestrationQuery", "OrchestrationState", "OrchestrationStateError", "OrchestrationStatus"),
    *("IdReuseAction", "OrchestrationIdReusePolicy"),
    *(
        "OrchestratorNotRegisteredError",
        "Page",
        "PartitionLostError",
        "PayloadCodec",
        "PayloadCodecError",
        "PayloadMissingError",
        "PayloadTooLargeError",
    ),
    *("PurgeInstancesResult", "QueueFullError", "ReplaySafeLogger", "RetryPolicy", "SchemaVersionError"),
    *(
        "SerializationError",
        "Settings",
        "Task",
        "TaskActivity",
        "TaskCancelledError",
        "TaskFailedError",
        "TaskHub",
    ),
    *("TaskHubClient", "TaskHubError", "TaskHubWorker", "TaskOrchestration", "ThrottledError", "TimerTask"),
    *("VersionFailureStrategy", "VersionMatchStrategy", "VersioningOptions", "WorkItemFilters"),
    *("WorkerProcessError", "WorkerStateError", "__version__", "when_all", "when_any"),
}
TASK = {
    *("Activity", "ActivityContext", "CancellableTask", "CompletableTask", "CompositeTask", "FailureDetails"),
    *(
        "NonDeterminismError",
        "NonRetriableError",
        "OrchestrationContext",
        "OrchestrationStateError",
        "Orchestrator",
    ),
    *("ReplaySafeLogger", "RetryPolicy", "Task", "TaskActivity", "TaskCancelledError", "TaskFailedError"),
    *("TaskOrchestration", "TimerTask", "WhenAllTask", "WhenAnyTask", "get_name", "when_all", "when_any"),
}
CLIENT = {
    *("AsyncTaskHubClient", "IdReuseAction", "OrchestrationFailedError", "OrchestrationIdReusePolicy"),
    *("OrchestrationQuery", "OrchestrationState"),
    *("OrchestrationStatus", "Page", "PurgeInstancesResult", "TaskHubClient"),
    *("BulkProgress", "BulkStartResult", "NewOrchestration", "StartResult"),
    *("DeadLetterInfo", "HubStatistics", "PartitionStatistics", "WorkerStatistics"),
}
WORKER = {
    *("ActivityMiddleware", "ActivityWorkItemFilter", "CallNext", "EntityWorkItemFilter"),
    *("OrchestrationMiddleware", "OrchestrationWorkItemFilter", "VersionFailureStrategy"),
    *("VersionMatchStrategy", "VersioningOptions", "WorkItemFilters"),
    *("ActivityNotRegisteredError", "ConcurrencyOptions", "ExceptionPropertiesProvider"),
    *("OrchestratorNotRegisteredError", "TaskHubWorker"),
}
# Names, parameters and defaults of Microsoft's durabletask 1.12; what stands behind them may have more.
CLIENT_METHODS = {
    "schedule_new_orchestration": (
        "orchestrator, input=None, instance_id=None, start_at=None, reuse_id_policy=None, tags=None,"
        " version=None"
    ),
    "get_orchestration_state": "instance_id, fetch_payloads=True",
    "get_orchestration_history": "instance_id, execution_id=None",
    "list_instance_ids": (
        "runtime_status=None, completed_time_from=None, completed_time_to=None, page_size=None,"
        " continuation_token=None"
    ),
    "get_all_orchestration_states": "orchestration_query=None",
    "wait_for_orchestration_start": "instance_id, fetch_payloads=False, timeout=60",
    "wait_for_orchestration_completion": "instance_id, fetch_payloads=True, timeout=60",
    "raise_orchestration_event": "instance_id, event_name, data=None",
    "terminate_orchestration": "instance_id, output=None, recursive=True",
    "suspend_orchestration": "instance_id, reason=None",
    "resume_orchestration": "instance_id, reason=None",
    "rewind_orchestration": "instance_id, reason=None",
    "restart_orchestration": "instance_id, restart_with_new_instance_id=False",
    "purge_orchestration": "instance_id, recursive=True",
    "purge_orchestrations_by": (
        "created_time_from=None, created_time_to=None, runtime_status=None, recursive=False, timeout=None"
    ),
}
# What only this package has.
OWN_CLIENT_METHODS = {
    "reset_orchestration": "instance_id, event_index, execution_id=None, keep_events=True, reason=None",
    "schedule_new_orchestrations": "requests, on_progress=None",
    "list_orchestration_states": "orchestration_query=None, page_size=None, continuation_token=None",
    "iter_orchestration_states": "orchestration_query=None, page_size=None",
    "get_hub_statistics": "",
    "list_dead_letters": "",
    "redrive_dead_letter": "letter_id",
}


def parameters(method: object) -> list[str]:
    assert callable(method)
    return [
        parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}"
        for parameter in inspect.signature(method).parameters.values()
        if parameter.name != "self"
    ]


def test_the_package_has_exactly_these_names() -> None:
    assert set(durabletask_azure.__all__) == PACKAGE
    assert set(dir(durabletask_azure)) >= PACKAGE
    for name in PACKAGE:
        assert getattr(durabletask_azure, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = durabletask_azure.nothing


@pytest.mark.parametrize(("module", "names"), [("task", TASK), ("client", CLIENT), ("worker", WORKER)])
def test_the_modules_users_know_have_exactly_these_names(module: str, names: set[str]) -> None:
    loaded = importlib.import_module(f"durabletask_azure.{module}")
    assert set(loaded.__all__) == names
    for name in names:
        assert getattr(loaded, name) is not None


@pytest.mark.parametrize("kind", [TaskHubClient, AsyncTaskHubClient])
@pytest.mark.parametrize("name", CLIENT_METHODS)
def test_client_methods_take_what_durabletask_takes(kind: type, name: str) -> None:
    method = getattr(kind, name)
    found = parameters(method)
    wanted = CLIENT_METHODS[name].split(", ")
    assert found[: len(wanted)] == wanted
    assert all("=" in extra for extra in found[len(wanted) :])
    assert inspect.iscoroutinefunction(method) is (kind is AsyncTaskHubClient)


def test_both_clients_have_the_same_methods() -> None:
    public = [
        {name for name in vars(kind) if not name.startswith("_")}
        for kind in (TaskHubClient, AsyncTaskHubClient)
    ]
    assert public[0] == public[1] == {*CLIENT_METHODS, *OWN_CLIENT_METHODS, "close"}
    for name in (*CLIENT_METHODS, *OWN_CLIENT_METHODS):
        sync, other = (inspect.signature(getattr(kind, name)) for kind in (TaskHubClient, AsyncTaskHubClient))
        assert sync.parameters == other.parameters
        # An iterator is made at once by both; all else is awaited by one of them.
        assert str(sync.return_annotation) == str(other.return_annotation).removeprefix("Async")


@pytest.mark.parametrize("kind", [TaskHubClient, AsyncTaskHubClient])
@pytest.mark.parametrize("name", OWN_CLIENT_METHODS)
def test_methods_of_our_own_stay_as_they_are(kind: type, name: str) -> None:
    method = getattr(kind, name)
    assert ", ".join(parameters(method)) == OWN_CLIENT_METHODS[name]
    is_awaited = kind is AsyncTaskHubClient and name != "iter_orchestration_states"
    assert inspect.iscoroutinefunction(method) is is_awaited


def test_a_state_has_durabletasks_fields_first() -> None:
    names = [field.name for field in dataclasses.fields(OrchestrationState)]
    assert names[:9] == [
        *("instance_id", "name", "runtime_status", "created_at", "last_updated_at", "serialized_input"),
        *("serialized_output", "serialized_custom_status", "failure_details"),
    ]
    assert {status.name for status in OrchestrationStatus} == {
        *("RUNNING", "COMPLETED", "FAILED", "TERMINATED", "CONTINUED_AS_NEW", "PENDING", "SUSPENDED")
    }
    assert str(OrchestrationStatus.COMPLETED) == "COMPLETED"
    assert OrchestrationQuery().max_instance_count == 2**31 - 1
    assert client.Page(items=["a"], continuation_token=None).items == ["a"]


def test_history_events_have_durabletasks_fields_in_its_order() -> None:
    fields = {
        "ExecutionStartedEvent": (
            "name version input orchestration_instance parent_instance scheduled_start_timestamp parent_trace_context"
            " orchestration_span_id tags"
        ),
        "ExecutionCompletedEvent": "orchestration_status result failure_details",
        "ExecutionTerminatedEvent": "input recurse",
        "TaskScheduledEvent": "name version input parent_trace_context tags",
        "TaskCompletedEvent": "task_scheduled_id result",
        "TaskFailedEvent": "task_scheduled_id failure_details",
        "SubOrchestrationInstanceCreatedEvent": "instance_id name version input parent_trace_context tags",
        "SubOrchestrationInstanceCompletedEvent": "task_scheduled_id result",
        "SubOrchestrationInstanceFailedEvent": "task_scheduled_id failure_details",
        "TimerCreatedEvent": "fire_at",
        "TimerFiredEvent": "fire_at timer_id",
        "OrchestratorStartedEvent": "",
        "OrchestratorCompletedEvent": "",
        "EventSentEvent": "instance_id name input",
        "EventRaisedEvent": "name input",
        "ContinueAsNewEvent": "input",
        "ExecutionSuspendedEvent": "input",
        "ExecutionResumedEvent": "input",
        "ExecutionRewoundEvent": (
            "reason parent_execution_id instance_id parent_trace_context name version input parent_instance tags"
        ),
    }
    for name, own in fields.items():
        kind = getattr(history, name)
        assert issubclass(kind, history.HistoryEvent)
        assert [field.name for field in dataclasses.fields(kind)] == ["event_id", "timestamp", *own.split()]


def test_a_query_has_durabletasks_fields_first_and_the_rest_by_name() -> None:
    fields = dataclasses.fields(OrchestrationQuery)
    assert [field.name for field in fields if not field.kw_only] == [
        *("created_time_from", "created_time_to", "runtime_status", "max_instance_count"),
        *("fetch_inputs_and_outputs", "instance_id_prefix"),
    ]
    assert [field.name for field in fields if field.kw_only] == [
        *("instance_ids", "names", "versions", "tags", "last_updated_time_from", "last_updated_time_to"),
        *("completed_time_from", "completed_time_to", "has_pending_reason"),
    ]


def test_workers_take_what_durabletask_takes() -> None:
    assert parameters(ConcurrencyOptions) == [
        "maximum_concurrent_activity_work_items=None",
        "maximum_concurrent_orchestration_work_items=None",
        "maximum_concurrent_entity_work_items=None",
        "maximum_thread_pool_workers=None",
    ]
    assert parameters(TaskHubWorker)[1:] == [
        "concurrency_options=None",
        "maximum_timer_interval=None",
        "data_converter=None",
        "logger=None",
        "exception_properties_provider=None",
    ]
    options = ConcurrencyOptions(maximum_concurrent_activity_work_items=3)
    with TaskHub.local() as hub:
        assert TaskHubWorker(hub, concurrency_options=options).concurrency_options is options
        assert TaskHubWorker(hub).is_running is False
        assert parameters(TaskHubWorker.use_versioning) == ["version"]
        assert [name.split("=")[0] for name in parameters(TaskHubWorker.use_work_item_filters)] == ["filters"]


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, durabletask_azure\n"
        "heavy = [name for name in sys.modules if name.split('.')[0] in ('azure', 'sqlite3', 'msgspec', 'asyncio')]\n"
        "print(heavy)\n"
        "from durabletask_azure import TaskHub\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'azure'])\n"
    )
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)  # noqa: S603
    assert done.stdout.splitlines() == ["[]", "[]"]

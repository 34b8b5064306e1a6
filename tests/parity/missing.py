"""What Microsoft's package has and this one has not: each path of ``surface.lacking()``, under the reason.

A path is ``module.name``, ``module.Class.method`` or, in brackets, a parameter. ``test_signatures.py`` compares this
table with what it finds, both ways: what is added here has to be missing, and what is there has to go from here.
"""

from __future__ import annotations

from typing import Final

CLIENTS: Final = ("client.TaskHubGrpcClient", "client.AsyncTaskHubGrpcClient")
ALL: Final = (*CLIENTS, "worker.TaskHubGrpcWorker")


def of(owners: tuple[str, ...], *ends: str) -> tuple[str, ...]:
    """Return the paths of members that several classes have."""
    return tuple(owner + end for owner in owners for end in ends)


MISSING: Final[dict[str, tuple[str, ...]]] = {
    "a hub is opened in the process, not reached over gRPC": (
        "GrpcChannelOptions",
        "GrpcRetryPolicyOptions",
        *of(ALL, "(host_address)", "(metadata)", "(channel)", "(secure_channel)", "(interceptors)"),
        *of(ALL, "(channel_options)", "(resiliency_options)"),
        *of(CLIENTS, ".get_orchestration_history(for_work_item_processing)"),
        "worker.TaskHubGrpcWorker.add_capability",
    ),
    "made of protobuf messages": (
        "client.new_orchestration_state",
        "client.new_purge_instances_result",
        "client.parse_orchestration_state",
    ),
    "handlers and formatters are set on the logger that is given": of(
        ALL, "(log_handler)", "(log_formatter)"
    ),
    "the hub keeps large values itself; a store of tokens can neither list nor delete what a purge has to remove": (
        "LargePayloadStorageOptions",
        "PayloadStore",
        "payload",
        *of(ALL, "(payload_store)"),
    ),
    "the runtime's own, not for users": (
        "task.RetryableTask",
        "task.TimerTask(final_fire_at)",
        "task.TimerTask(maximum_timer_interval)",
        "task.TimerTask.set_retryable_parent",
        "worker.DATETIME_STRING_FORMAT",
        "worker.ExecutionResults",
    ),
    "a timer of any length is one timer; a worker makes parts of long ones only if it is told to": (
        "worker.DEFAULT_MAXIMUM_TIMER_INTERVAL",
        "worker.TaskHubGrpcWorker(maximum_timer_interval)",
    ),
    "comes with tracing": of(ALL, "(emit_trace_spans)", ".emit_trace_spans"),
    "comes with entities": (
        "client.CleanEntityStorageResult",
        "client.EntityQuery",
        *of(CLIENTS, ".signal_entity", ".get_entity", ".get_all_entities", ".clean_entity_storage"),
        "task.Entity",
        "task.OrchestrationContext.call_entity",
        "task.OrchestrationContext.lock_entities",
        "task.OrchestrationContext.signal_entity",
        "task.get_entity_name",
        "worker.EntityNotRegisteredError",
        "worker.TaskHubGrpcWorker.add_entity",
    ),
    "comes with schedules": ("worker.TaskHubGrpcWorker.configure_scheduled_tasks",),
}

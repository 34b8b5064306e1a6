"""Whether a worker needs processes for its activities; only one that does imports ``multiprocessing``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from durabletask_azure.core.codec import DataConverter
from durabletask_azure.core.definitions import ActivityDefinition
from durabletask_azure.engine.executor import ActivityExecutor
from durabletask_azure.settings import Settings

__all__ = ["worker_processes"]


def worker_processes(
    definitions: Sequence[ActivityDefinition],
    settings: Settings,
    converter: DataConverter,
    properties_provider: Any,
) -> Callable[[ActivityExecutor], ActivityExecutor]:
    """Return what adds worker processes to an executor, or leaves it as it is if no activity runs in one.

    Raises:
        ConfigurationError: a process cannot run one of them.
    """
    if not any(definition.process for definition in definitions):
        return lambda executor: executor
    from durabletask_azure.engine.process_child import ProcessSetup
    from durabletask_azure.engine.process_executor import ProcessExecutor, check_process_activities

    setup = ProcessSetup(converter, properties_provider, settings.failure_text_bytes_max)
    check_process_activities(definitions, setup)
    return lambda executor: ProcessExecutor(executor, settings.activity_processes_max, setup)

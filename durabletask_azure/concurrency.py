"""How much a worker does at once, by the options of Microsoft's ``durabletask``."""

from __future__ import annotations

import os

import msgspec

from durabletask_azure.errors import ArgumentTypeError, ConfigurationError
from durabletask_azure.options import known_options
from durabletask_azure.settings import Settings

__all__ = ["ConcurrencyOptions", "with_concurrency"]


class ConcurrencyOptions:
    """How much a worker does at once; without options the hub's settings count.

    Args:
        maximum_concurrent_activity_work_items: activities at once; 100 per processor if not given.
        maximum_concurrent_orchestration_work_items: instances handled by one commit, if that is fewer than the settings
            allow; 100 per processor if not given. The turns of a partition run one after the other in any case.
        maximum_concurrent_entity_work_items: kept for entities, which there are none of yet; 100 per processor if not
            given.
        maximum_thread_pool_workers: threads for synchronous activities; processors + 4 if not given.

    Raises:
        ArgumentTypeError: one is not a whole number. ConfigurationError: one is less than 1.
    """

    @known_options("ConcurrencyOptions")
    def __init__(
        self,
        maximum_concurrent_activity_work_items: int | None = None,
        maximum_concurrent_orchestration_work_items: int | None = None,
        maximum_concurrent_entity_work_items: int | None = None,
        maximum_thread_pool_workers: int | None = None,
    ) -> None:
        processors = os.cpu_count() or 1
        self.maximum_concurrent_activity_work_items = _given(
            "maximum_concurrent_activity_work_items", maximum_concurrent_activity_work_items, 100 * processors
        )
        self.maximum_concurrent_orchestration_work_items = _given(
            "maximum_concurrent_orchestration_work_items",
            maximum_concurrent_orchestration_work_items,
            100 * processors,
        )
        self.maximum_concurrent_entity_work_items = _given(
            "maximum_concurrent_entity_work_items", maximum_concurrent_entity_work_items, 100 * processors
        )
        self.maximum_thread_pool_workers = _given(
            "maximum_thread_pool_workers", maximum_thread_pool_workers, processors + 4
        )


def with_concurrency(settings: Settings, options: object) -> Settings:
    """Return the settings of a worker with these options; ``None`` changes nothing.

    Raises:
        ArgumentTypeError: no :class:`ConcurrencyOptions`.
    """
    if options is None:
        return settings
    if not isinstance(options, ConcurrencyOptions):
        raise ArgumentTypeError(
            f"concurrency_options must be a ConcurrencyOptions object, not {type(options).__name__}"
        )
    return msgspec.structs.replace(
        settings,
        activity_concurrency_max=options.maximum_concurrent_activity_work_items,
        activity_threads_max=options.maximum_thread_pool_workers,
        commit_instances_max=min(
            options.maximum_concurrent_orchestration_work_items, settings.commit_instances_max
        ),
    )


def _given(name: str, value: object, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentTypeError(f"{name} must be a whole number, not {value!r}")
    if value < 1:
        raise ConfigurationError(f"{name} must be at least 1, not {value}; leave it out for {default}")
    return value

"""What a worker takes, and what surrounds the code it runs: versions, work item filters, middleware.

The part of :class:`~durabletask_azure.worker.TaskHubWorker` that goes beyond registering names and running. Everything
here is said before the worker starts, and counts from the next start on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Final, TypeVar, overload

from durabletask_azure.core.filters import WorkItemFilters
from durabletask_azure.core.middleware import (
    ActivityMiddleware,
    OrchestrationMiddleware,
    checked_middleware,
)
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.versioning import VersioningOptions
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError, WorkerStateError

__all__ = ["WorkPolicies"]

OM = TypeVar("OM", bound=OrchestrationMiddleware)
AM = TypeVar("AM", bound=ActivityMiddleware)

MAXIMUM_TIMER_INTERVAL_MIN: Final = timedelta(seconds=1)
"""The least that ``maximum_timer_interval`` may be."""

_OWN_FILTERS = object()
"""Stands for "filters made of what is registered": not given is not the same as ``None``."""


class WorkPolicies(ABC):
    """What a worker takes and what surrounds it."""

    def __init__(self, *, maximum_timer_interval: object) -> None:
        self._registry = Registry()
        self._maximum_timer_interval = _checked_interval(maximum_timer_interval)
        self._given_filters: WorkItemFilters | None = None
        self._has_own_filters = False
        self._orchestration_middleware: list[OrchestrationMiddleware] = []
        self._activity_middleware: list[ActivityMiddleware] = []

    @property
    @abstractmethod
    def is_running(self) -> bool:
        """Whether the worker is started."""

    @property
    def maximum_timer_interval(self) -> timedelta | None:
        """How long one durable timer may be; longer ones are made of several. ``None``: of any length."""
        return self._maximum_timer_interval

    def use_versioning(self, version: VersioningOptions) -> None:
        """Choose which versions of orchestrations this worker runs, what becomes of others, and what version
        sub-orchestrations get that are started without one.

        A version is looked at whenever the worker has something to do for an instance, not only at its start. What is
        left waiting runs when a worker that fits owns its partition.

        Raises:
            WorkerStateError: (a ``RuntimeError``) the worker is running.
            ArgumentTypeError: no :class:`VersioningOptions`.
        """
        self._check_stopped("The versioning cannot be changed")
        if not isinstance(version, VersioningOptions):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(
                f"version must be a VersioningOptions object, not {type(version).__name__}"
            )
        self._registry.versioning = version

    @overload
    def use_work_item_filters(self) -> None: ...

    @overload
    def use_work_item_filters(self, filters: WorkItemFilters) -> None: ...

    @overload
    def use_work_item_filters(self, filters: None) -> None: ...

    def use_work_item_filters(self, filters: WorkItemFilters | object | None = _OWN_FILTERS) -> None:
        """Take only some orchestrations and activities: without an argument, those registered when the worker starts;
        with ``None``, all again.

        Activities that are not taken are left to other workers. A worker that takes orchestrations holds partitions,
        and leaves instances of other orchestrations there waiting, with a reason: let all workers that take
        orchestrations take the same ones. A worker that takes none holds no partition.

        Raises:
            WorkerStateError: (a ``RuntimeError``) the worker is running.
            ArgumentTypeError: (a ``TypeError``) neither filters nor ``None``.
        """
        self._check_stopped("Work item filters cannot be changed")
        if filters is not _OWN_FILTERS and not isinstance(filters, (WorkItemFilters, type(None))):
            raise ArgumentTypeError(
                f"filters must be a WorkItemFilters object, None or left out, not {type(filters).__name__}"
            )
        self._has_own_filters = filters is _OWN_FILTERS
        self._given_filters = filters if isinstance(filters, WorkItemFilters) else None

    def add_orchestration_middleware(self, middleware: OM) -> OM:
        """Run every orchestration of this worker inside ``middleware``, an ``async def (ctx, input, call_next)``.

        It sees and may replace input, result and error; it is orchestrator code, so it must be deterministic, and the
        same on all workers of the hub. The first one added is the outermost. Usable as a decorator.

        Raises:
            WorkerStateError: the worker is running. ArgumentTypeError: it is not such a function.
        """
        self._check_stopped("Middleware cannot be added")
        self._orchestration_middleware.append(checked_middleware(middleware))
        return middleware

    def add_activity_middleware(self, middleware: AM) -> AM:
        """Run every activity of this worker inside ``middleware``, an ``async def (ctx, input, call_next)``.

        It sees and may replace input, result and error, and runs on the loop of async activities, around sync ones too.
        The first one added is the outermost. Usable as a decorator.

        Raises:
            WorkerStateError: the worker is running. ArgumentTypeError: it is not such a function.
        """
        self._check_stopped("Middleware cannot be added")
        self._activity_middleware.append(checked_middleware(middleware))
        return middleware

    def _filters(self) -> WorkItemFilters | None:
        """Return the filters that count from now on."""
        return self._registry.own_filters() if self._has_own_filters else self._given_filters

    def _check_stopped(self, what: str) -> None:
        if self.is_running:
            raise WorkerStateError(f"{what} while the worker is running; stop it first.")


def _checked_interval(interval: object) -> timedelta | None:
    if interval is None:
        return None
    if not isinstance(interval, timedelta):
        raise ArgumentTypeError(
            f"maximum_timer_interval must be a timedelta or None, not {type(interval).__name__}"
        )
    if interval < MAXIMUM_TIMER_INTERVAL_MIN:
        raise ConfigurationError(
            f"maximum_timer_interval must be at least {MAXIMUM_TIMER_INTERVAL_MIN}, not {interval}: every part of a"
            " timer is a turn and two events of history; None allows timers of any length"
        )
    return interval

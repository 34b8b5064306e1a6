"""Many instances in one call: what is asked for, how far it has come, and what came of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from durabletask_azure.errors import DurableTaskError
from durabletask_azure.id_reuse import OrchestrationIdReusePolicy

__all__ = ["BulkProgress", "BulkStartResult", "NewOrchestration", "StartResult"]


@dataclass(frozen=True, slots=True)
class NewOrchestration:
    """One of many orchestrations to start; the fields are what ``schedule_new_orchestration`` takes."""

    orchestrator: Any
    input: Any = None
    instance_id: str | None = None
    start_at: datetime | None = None
    tags: Mapping[str, str] | None = None
    version: str | None = None
    raise_event: tuple[str, Any] | None = None
    reuse_id_policy: OrchestrationIdReusePolicy | None = None


@dataclass(frozen=True, slots=True)
class StartResult:
    """What came of one request: started under ``instance_id``, or ``error`` says why not.

    With a ``HubUnavailableError`` it is unknown whether it was started. ``instance_id`` is ``None`` only if the request
    was not one.
    """

    instance_id: str | None
    error: DurableTaskError | None = None

    @property
    def is_started(self) -> bool:
        """Whether the instance was started."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class BulkStartResult:
    """What came of each request, in their order; after an interruption, of those that were dealt with before it."""

    results: tuple[StartResult, ...]

    @property
    def started(self) -> list[str]:
        """The ids of the instances that were started, in order."""
        return [one.instance_id for one in self.results if one.error is None and one.instance_id is not None]

    @property
    def refused(self) -> list[StartResult]:
        """The results of the others, in order."""
        return [one for one in self.results if one.error is not None]


@dataclass(frozen=True, slots=True)
class BulkProgress:
    """How far a call for many instances has come: how many were started or purged, how many were refused or not
    confirmed in time, and how many there are in all, if that is known."""

    succeeded: int
    failed: int
    total: int | None

"""Work that fails as long as it is told to, and what tests of failed instances ask of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from durabletask_azure import (
    ActivityContext,
    OrchestrationContext,
    OrchestrationStatus,
    history,
)
from tests.behaviours.stage import Stage


class Shop:
    """Activities that count their calls and fail while they are told to."""

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.calls: Counter[str] = Counter()

    def work(self, ctx: ActivityContext, name: str) -> str:
        self.calls[name] += 1
        if name in self.broken:
            raise ValueError(f"{name} is broken")
        return name.upper()


def work(ctx: OrchestrationContext, name: str) -> Any:
    return ctx.call_activity("work", input=name)


async def chain(ctx: OrchestrationContext, names: list[str]) -> list[str]:
    return [await work(ctx, name) for name in names]


def failed(stage: Stage, instance_id: str) -> None:
    assert stage.end(instance_id).runtime_status is OrchestrationStatus.FAILED


def index_of(stage: Stage, instance_id: str, kind: type[history.HistoryEvent], number: int = 0) -> int:
    """Return the place of the ``number``th event of a kind in an instance's history."""
    events = stage.client.get_orchestration_history(instance_id)
    return [at for at, event in enumerate(events) if isinstance(event, kind)][number]

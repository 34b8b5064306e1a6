"""The demo's orchestrators and activities, written both ways: ``async def`` and generator.

Orchestrators decide and wait; everything that touches the world is an activity. Each activity first appends a line to
a file outside the hub, so that the demo can count how often it really ran.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from durabletask_azure import (
    ActivityContext,
    OrchestrationContext,
    RetryPolicy,
    Task,
    TaskHubWorker,
    when_all,
)
from samples.demo.lines import Lines

__all__ = [
    "Activities",
    "ApprovalRequest",
    "approval",
    "chain",
    "fan_out",
    "order",
    "register",
    "ship",
    "slow_chain",
]

SLOW_STEP_S = 0.03


# ------------------------------------------------------------------ orchestrators


async def chain(ctx: OrchestrationContext, steps: int) -> int:
    """Call an activity again and again, each time with the result of the time before."""
    value = 0
    for _ in range(steps):
        value = await ctx.call_activity("add_one", input=value, return_type=int)
    return value


async def slow_chain(ctx: OrchestrationContext, steps: int) -> int:
    """The same with an activity that takes its time: the demo kills a worker in the middle of one."""
    value = 0
    for _ in range(steps):
        value = await ctx.call_activity("add_one_slowly", input=value, return_type=int)
    return value


def fan_out(ctx: OrchestrationContext, count: int) -> Generator[Task[Any], Any, int]:
    """Call many activities at once and add up what they return (a generator: ``yield`` where others ``await``)."""
    squares: list[int] = yield when_all([ctx.call_activity("square", input=n) for n in range(count)])
    return sum(squares)


@dataclass
class ApprovalRequest:
    """What somebody is to approve, and how many seconds there are for it."""

    item: str
    timeout_s: float


async def approval(ctx: OrchestrationContext, request: ApprovalRequest) -> str:
    """Ask a human and wait for the answer, but not for ever. While it waits, nothing of this runs anywhere."""
    await ctx.call_activity("ask_for_approval", input=request.item)
    ctx.set_custom_status("waiting for approval")
    try:
        who = await ctx.wait_for_external_event(
            "approved", data_type=str, timeout=timedelta(seconds=request.timeout_s)
        )
    except TimeoutError:
        return f"{request.item}: nobody answered"
    return f"{request.item}: approved by {who}"


def order(ctx: OrchestrationContext, item: str) -> Generator[Task[Any], Any, str]:
    """Hand the shipping to a sub-orchestration, which is tried again when it fails."""
    patience = RetryPolicy(first_retry_interval=timedelta(milliseconds=100), max_number_of_attempts=3)
    receipt: str = yield ctx.call_sub_orchestrator(ship, input=item, retry_policy=patience)
    return receipt


async def ship(ctx: OrchestrationContext, item: str) -> str:
    """The sub-orchestration."""
    return await ctx.call_activity("book_courier", input=item, return_type=str)


# ------------------------------------------------------------------ activities


class Activities:
    """Every public method becomes an activity of its name."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def add_one(self, ctx: ActivityContext, value: int) -> int:
        """Return the value plus one."""
        self._note(ctx, value + 1)
        return value + 1

    def add_one_slowly(self, ctx: ActivityContext, value: int) -> int:
        """Return the value plus one, after a while."""
        self._note(ctx, value + 1)
        time.sleep(SLOW_STEP_S)
        return value + 1

    def square(self, ctx: ActivityContext, value: int) -> int:
        """Return the value's square."""
        self._note(ctx, value)
        return value * value

    async def ask_for_approval(self, ctx: ActivityContext, item: str) -> None:
        """Tell a human that there is something to approve; here: nobody."""
        self._note(ctx, item)

    def book_courier(self, ctx: ActivityContext, item: str) -> str:
        """Fail the first time it is called for an item, and book a courier after that."""
        earlier = [run for run in self._lines.runs() if run.activity == ctx.name and run.step == item]
        self._note(ctx, item)
        if not earlier:
            raise ConnectionError("the courier does not answer")
        return f"{item}: courier booked"

    def _note(self, ctx: ActivityContext, step: object) -> None:
        self._lines.append(ctx.orchestration_id, ctx.name, step, ctx.idempotency_key)


def register(worker: TaskHubWorker, lines: Lines) -> None:
    """Register everything of the demo with a worker."""
    for orchestrator in (chain, slow_chain, fan_out, approval, order, ship):
        worker.add_orchestrator(orchestrator)
    worker.add_activities_from(Activities(lines))

"""The usual turn (an activity of a warm instance has completed) comes to what it does in the general way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from durabletask_azure.core.turn import Turn
from tests.unit.bench import Bench, came_to


async def chain(ctx: Any, value: Any) -> Any:
    total = 0
    for index in range(4):
        total += await ctx.call_activity("work", input=index)
    return total


async def several(ctx: Any, value: Any) -> Any:
    first = ctx.call_activity("work", input=1)
    second = ctx.call_activity("work")
    await first
    return await second


async def nothing_new(ctx: Any, value: Any) -> Any:
    ctx.call_activity("work")
    await ctx.call_activity("work")
    await ctx.wait_for_external_event("go")


async def with_tags(ctx: Any, value: Any) -> Any:
    await ctx.call_activity("work")
    await ctx.call_activity("work", tags={"a": "b"})


async def with_a_large_input(ctx: Any, value: Any) -> Any:
    await ctx.call_activity("work")
    await ctx.call_activity("work", input="x" * 100_000)


async def with_a_foreign_input(ctx: Any, value: Any) -> Any:
    await ctx.call_activity("work")
    await ctx.call_activity("work", input="äöü")


async def with_a_foreign_name(ctx: Any, value: Any) -> Any:
    await ctx.call_activity("work")
    await ctx.call_activity("ärger")


async def with_a_timer(ctx: Any, value: Any) -> Any:
    await ctx.call_activity("work")
    timer = ctx.create_timer(timedelta(days=1))
    await ctx.call_activity("work")
    timer.cancel()
    await ctx.call_activity("work")


async def with_a_child(ctx: Any, value: Any) -> Any:
    await ctx.call_activity("work")
    await ctx.call_sub_orchestrator("chain", input=1)


async def with_a_custom_status(ctx: Any, value: Any) -> Any:
    await ctx.call_activity("work")
    ctx.set_custom_status("half way")
    await ctx.call_activity("work")


async def two_at_once(ctx: Any, value: Any) -> Any:
    await ctx.call_activity("work")
    first, second = ctx.call_activity("work", input=1), ctx.call_activity("work", input=2)
    return [await first, await second]


async def leaving_one_open(ctx: Any, value: Any) -> Any:
    await ctx.call_activity("work")
    ctx.call_activity("work")
    return "small"


async def with_a_large_result(ctx: Any, value: Any) -> Any:
    await ctx.call_activity("work")
    return "x" * 100_000


async def failing(ctx: Any, value: Any) -> Any:
    await ctx.call_activity("work")
    raise ValueError("boom")


async def generations(ctx: Any, value: Any) -> Any:
    await ctx.call_activity("work")
    ctx.continue_as_new(1)


ALL = (
    chain,
    several,
    nothing_new,
    with_tags,
    with_a_large_input,
    with_a_foreign_input,
    with_a_foreign_name,
    with_a_timer,
    with_a_child,
    with_a_custom_status,
    two_at_once,
    leaving_one_open,
    with_a_large_result,
    failing,
    generations,
)


def outcome(turn: Turn) -> tuple[object, ...]:
    """Return what a turn came to, without the note of the duplicate."""
    *but_notes, _notes, events = came_to(turn)
    return (*but_notes, events)


@pytest.mark.parametrize("orchestrator", ALL, ids=lambda function: function.__name__)
@pytest.mark.parametrize(
    "limits",
    [{}, {"history_inline_bytes_max": 300}, {"history_events_max": 6}, {"open_tasks_max": 1}],
    ids=["inline", "segments", "too long a history", "too many open tasks"],
)
def test_it_comes_to_the_same_as_with_a_duplicate_beside_it(
    orchestrator: Callable[..., Any], limits: dict[str, Any]
) -> None:
    alone, beside = Bench(*ALL, **limits), Bench(*ALL, **limits)
    name = orchestrator.__name__
    assert outcome(alone.begin(name)) == outcome(beside.begin(name))

    for task in (1, 2, 3, 4):
        done = alone.task_done(task, task)
        again = beside.task_done(task, task)
        usual = alone.turn(done)
        general = beside.turn(beside.task_done(task, task), again)
        assert outcome(usual) == outcome(general)
        assert alone.rows == beside.rows


def test_a_result_for_another_execution_or_a_task_that_is_not_open_is_dropped() -> None:
    bench = Bench(chain)
    bench.begin("chain")
    for message in (bench.task_done(1, 0, execution="other"), bench.task_done(2, 0)):
        turn = bench.turn(message)
        assert turn.notes
        assert not turn.writes()
    assert not bench.turn(bench.task_done(1, 0, execution=None)).notes

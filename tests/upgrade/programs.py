"""What the instances in the recorded hub files run. Never change what is here: their histories were made by it.

Only names that every version has may be used: the files are written by running this with the version they are of.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any

from durabletask_azure import task

is_writing = False
"""Set while a hub file is written: then activities fail, or never return, that work when it is opened again."""

DUE = timedelta(seconds=4)
FAR = datetime(2300, 1, 1, tzinfo=UTC)
LARGE = "large ü " * 6_000


def step(ctx: Any, value: Any) -> Any:
    return value


def gated(ctx: Any, value: int) -> int:
    if is_writing and value >= 10:
        threading.Event().wait()
    return value


def unreliable(ctx: Any, value: Any) -> Any:
    if is_writing:
        raise ConnectionError("not yet")
    return value


def failing(ctx: Any, value: Any) -> Any:
    raise ValueError(f"never: {value}")


async def chain(ctx: Any, steps: int) -> int:
    total = 0
    for n in range(steps):
        total += await ctx.call_activity(step, input=n)
    return total


async def large(ctx: Any, text: str) -> str:
    again = await ctx.call_activity(step, input=text)
    return again + "!"


async def fails(ctx: Any) -> None:
    await ctx.call_activity(failing, input="x")


async def for_an_event(ctx: Any, value: Any) -> list[Any]:
    first = await ctx.call_activity(step, input=value)
    ctx.set_custom_status({"waiting": True})
    event = await ctx.wait_for_external_event("go")
    return [first, event, await ctx.call_activity(step, input="last")]


def for_an_event_generator(ctx: Any, value: Any) -> Generator[Any, Any, list[Any]]:
    first = yield ctx.call_activity(step, input=value)
    event = yield ctx.wait_for_external_event("go")
    return [first, event]


async def large_for_an_event(ctx: Any, text: str) -> list[Any]:
    again = await ctx.call_activity(step, input=text)
    event = await ctx.wait_for_external_event("go")
    return [text == again == LARGE, event == LARGE]


async def for_a_timer(ctx: Any) -> str:
    await ctx.call_activity(step, input=1)
    await ctx.create_timer(DUE)
    return await ctx.call_activity(step, input="rang")


async def for_the_far_future(ctx: Any) -> Any:
    timer, event = ctx.create_timer(FAR), ctx.wait_for_external_event("go")
    winner = await task.when_any([timer, event])
    return ["event", event.result] if winner is event else ["timer"]


async def fan_out(ctx: Any, width: int) -> int:
    return sum(await task.when_all([ctx.call_activity(gated, input=n) for n in range(width)]))


async def poisoned(ctx: Any) -> str:
    try:
        await ctx.call_activity(gated, input=1_000)
    except task.TaskFailedError as error:
        return f"failed: {error.details.error_type}"
    return "not failed"


async def retrying(ctx: Any) -> Any:
    policy = task.RetryPolicy(first_retry_interval=DUE, max_number_of_attempts=5)
    return await ctx.call_activity(unreliable, input="at last", retry_policy=policy)


async def generations(ctx: Any, number: int) -> list[Any]:
    if number < 12:
        await ctx.call_activity(step, input=number)
        ctx.continue_as_new(number + 1, save_events=True)
        return []
    return [number, ctx.new_uuid() == ctx.new_uuid(), await ctx.wait_for_external_event("go")]


async def parent(ctx: Any) -> Any:
    return await ctx.call_sub_orchestrator(
        for_an_event, input="child", instance_id=f"{ctx.instance_id}-child"
    )


async def newcomer(ctx: Any, value: int) -> int:
    return value + 1


ACTIVITIES: list[Any] = [step, gated, unreliable, failing]
ORCHESTRATORS: list[Any] = [
    chain,
    fails,
    fan_out,
    for_a_timer,
    for_an_event,
    for_an_event_generator,
    for_the_far_future,
    generations,
    large,
    large_for_an_event,
    parent,
    poisoned,
    retrying,
]
"""All but ``newcomer``, which the version that wrote the file did not know."""

"""Orchestrators and activities of the recorded histories. NEVER CHANGE THIS FILE: a test compares its hash.

They stand for code that users have running when they upgrade. New ones go into a new file, ``orchestrators_3.py``. The
context is ``Any`` on purpose: what type checkers make of the API may change, what these programs do may not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from durabletask_azure import task

TICK = timedelta(milliseconds=20)
LONG = timedelta(days=40)


class CardError(Exception):
    """A failure with a type of its own."""


class HopelessError(task.NonRetriableError):
    """A failure that no retry mends."""


@dataclass
class Order:
    """A value that is more than JSON."""

    item: str
    count: int


# ---------------------------------------------------------------- activities


def echo(ctx: Any, value: Any) -> Any:
    return value


async def echo_async(ctx: Any, value: Any) -> Any:
    return value


def double(ctx: Any, value: int) -> int:
    return value * 2


def refuse(ctx: Any, value: str) -> None:
    try:
        raise LookupError(f"no {value}")
    except LookupError as error:
        raise CardError(f"refused: {value}") from error


def give_up(ctx: Any, value: str) -> None:
    raise HopelessError(value)


attempts: dict[str, int] = {}


def flaky(ctx: Any, value: list[Any]) -> int:
    """Fail as often as the second item of the input says, by its first."""
    key, failures = str(value[0]), int(value[1])
    attempts[key] = attempts.get(key, 0) + 1
    if attempts[key] <= failures:
        raise CardError(f"attempt {attempts[key]}")
    return attempts[key]


def price(ctx: Any, order: Order) -> Order:
    return Order(order.item, order.count * 10)


def text_of_size(ctx: Any, size: int) -> str:
    return "é" * (size // 2)


ACTIVITIES = [echo, echo_async, double, refuse, give_up, flaky, price, text_of_size]

# ---------------------------------------------------------------- one step after the other


async def chain(ctx: Any, steps: int) -> list[int]:
    return [await ctx.call_activity(double, input=n) for n in range(steps)]


def chain_generator(ctx: Any, steps: int) -> Generator[Any, Any, list[int]]:
    found: list[int] = []
    for n in range(steps):
        found.append((yield ctx.call_activity("double", input=n)))
    return found


class ChainClass(task.TaskOrchestration[int, int]):
    """The class-based way, async."""

    async def run(self, ctx: Any, input: int, /) -> int:
        total = 0
        for n in range(input):
            total += await ctx.call_activity(double, input=n)
        return total


class GeneratorClass(task.TaskOrchestration[int, int]):
    """The class-based way, as a generator."""

    def run(self, ctx: Any, input: int, /) -> Generator[Any, Any, int]:
        total = 0
        for n in range(input):
            total += yield ctx.call_activity(double, input=n)
        return total


def plain(ctx: Any, value: int) -> list[Any]:
    return [value, ctx.instance_id, ctx.is_replaying]


async def empty(ctx: Any) -> None:
    return None


async def typed(ctx: Any, order: Order) -> Order:
    priced = await ctx.call_activity(price, input=order)
    again = await ctx.call_activity("price", input=priced, return_type=Order)
    assert isinstance(priced, Order)
    assert isinstance(again, Order)
    return again


# ---------------------------------------------------------------- side by side


async def fan_out(ctx: Any, width: int) -> int:
    return sum(await task.when_all([ctx.call_activity(double, input=n) for n in range(width)]))


def fan_out_generator(ctx: Any, width: int) -> Generator[Any, Any, int]:
    results = yield task.when_all([ctx.call_activity(double, input=n) for n in range(width)])
    return sum(results)


async def gathered(ctx: Any, width: int) -> list[Any]:
    async def two_steps(n: int) -> int:
        return await ctx.call_activity(double, input=await ctx.call_activity(echo_async, input=n))

    return list(
        await asyncio.gather(
            *(two_steps(n) for n in range(width)),
            ctx.call_activity(refuse, input="x"),
            return_exceptions=True,
        )
    )[:width]


async def called(ctx: Any) -> Any:
    return await ctx.call_activity(echo, input="done")


async def raised(ctx: Any) -> Any:
    return await ctx.wait_for_external_event("go")


async def task_group(ctx: Any) -> list[Any]:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(asyncio.sleep(0.02, "slept"))
        second = group.create_task(called(ctx))
        third = group.create_task(raised(ctx))
    return [first.result(), second.result(), third.result()]


async def failing_group(ctx: Any) -> str:
    async def patient() -> None:
        try:
            await ctx.create_timer(LONG)
        except asyncio.CancelledError:
            ctx.set_custom_status("cancelled")
            raise

    async def refused() -> None:
        await ctx.call_activity(refuse, input="group")

    text = "not reached"
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(patient())
            group.create_task(refused())
    except* task.TaskFailedError as errors:
        text = ", ".join(str(error) for error in errors.exceptions)
    return text


async def asyncio_tools(ctx: Any, width: int) -> list[Any]:
    queue: asyncio.Queue[int] = asyncio.Queue()
    lock, begun = asyncio.Lock(), asyncio.Event()
    seen: list[Any] = []

    async def producer() -> None:
        begun.set()
        for n in range(width):
            async with lock:
                await queue.put(await ctx.call_activity(double, input=n))

    async def consumer() -> None:
        await begun.wait()
        for _ in range(width):
            seen.append(await queue.get())

    await asyncio.gather(producer(), consumer())
    for done in asyncio.as_completed([ctx.call_activity(echo, input=n) for n in range(width)]):
        seen.append(await done)
    tasks = [asyncio.ensure_future(ctx.call_activity(echo, input=n)) for n in range(width)]
    finished, _ = await asyncio.wait(tasks, return_when=asyncio.ALL_COMPLETED)
    seen.append(len(finished))
    return [*seen, await asyncio.shield(asyncio.ensure_future(ctx.call_activity(echo, input="shielded")))]


async def timeouts(ctx: Any) -> list[str]:
    seen: list[str] = []
    try:
        async with asyncio.timeout(0.02):
            await ctx.wait_for_external_event("never")
    except TimeoutError:
        seen.append("timeout")
    try:
        await asyncio.wait_for(ctx.create_timer(LONG), 0.02)
    except TimeoutError:
        seen.append("wait_for")
    seen.append(await asyncio.wait_for(ctx.call_activity(echo, input="in time"), 60))
    return seen


# ---------------------------------------------------------------- timers and events


async def timers(ctx: Any) -> list[str]:
    began: datetime = ctx.current_utc_datetime
    await ctx.create_timer(TICK)
    await ctx.create_timer(began + 3 * TICK)
    await asyncio.sleep(0.02)
    await asyncio.sleep(0)
    return [str(began), str(ctx.current_utc_datetime)]


def timers_generator(ctx: Any) -> Generator[Any, Any, list[str]]:
    first = ctx.create_timer(TICK)
    second = ctx.create_timer(2 * TICK)
    yield second
    yield first
    return [str(ctx.current_utc_datetime)]


async def events(ctx: Any) -> list[Any]:
    first = await ctx.wait_for_external_event("Order", data_type=Order)
    await ctx.call_activity(echo, input=1)
    rest = [await ctx.wait_for_external_event("more") for _ in range(3)]
    return [first.item, *rest]


def events_generator(ctx: Any) -> Generator[Any, Any, list[Any]]:
    seen: list[Any] = []
    for _ in range(3):
        seen.append((yield ctx.wait_for_external_event("more")))
    return seen


async def event_or_timeout(ctx: Any) -> list[Any]:
    seen: list[Any] = []
    try:
        seen.append(await ctx.wait_for_external_event("late", timeout=TICK))
    except TimeoutError:
        seen.append("timed out")
    ctx.set_custom_status("second")
    seen.append(await ctx.wait_for_external_event("early", timeout=LONG))
    return seen


async def race(ctx: Any) -> list[Any]:
    seen: list[Any] = []
    for n in range(3):
        timer, event = ctx.create_timer(TICK), ctx.wait_for_external_event(f"go{n}")
        if await task.when_any([timer, event]) is event:
            timer.cancel()
            seen.append([event.result, ctx.new_uuid()])
        else:
            event.cancel()
            seen.append("timer")
        ctx.set_custom_status({"round": n})
    return seen


def race_generator(ctx: Any) -> Generator[Any, Any, list[Any]]:
    seen: list[Any] = []
    for n in range(3):
        timer, event = ctx.create_timer(TICK), ctx.wait_for_external_event(f"go{n}")
        winner = yield task.when_any([timer, event])
        if winner is event:
            timer.cancel()
            seen.append([event.get_result(), ctx.new_uuid()])
        else:
            event.cancel()
            seen.append("timer")
        ctx.set_custom_status({"round": n})
    return seen


async def nested_composites(ctx: Any) -> list[Any]:
    both = task.when_all([ctx.call_activity(double, input=n) for n in range(2)])
    never = ctx.wait_for_external_event("never")
    winner = await task.when_any([both, never])
    slow = ctx.create_timer(LONG)
    quick = await task.when_any([slow, ctx.call_activity(echo, input="quick")])
    slow.cancel()
    return [winner is both, both.result, quick.result]


ORCHESTRATORS: list[Any] = [
    ChainClass,
    GeneratorClass,
    asyncio_tools,
    chain,
    chain_generator,
    empty,
    event_or_timeout,
    events,
    events_generator,
    failing_group,
    fan_out,
    fan_out_generator,
    gathered,
    nested_composites,
    plain,
    race,
    race_generator,
    task_group,
    timeouts,
    timers,
    timers_generator,
    typed,
]

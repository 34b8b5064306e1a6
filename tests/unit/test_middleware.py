"""Middleware around orchestrations, in the deterministic loop: every decision is compared with a replay's."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest

from durabletask_azure.core.context import OrchestrationContext
from durabletask_azure.core.middleware import CallNext, checked_middleware
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.errors import ArgumentTypeError
from tests.unit.play import Play


def inside(*middleware: Any) -> RuntimeOptions:
    return RuntimeOptions(orchestration_middleware=middleware)


async def plus_one(ctx: Any, value: int) -> int:
    return await ctx.call_activity("plus_one", input=value)


def plus_one_generator(ctx: Any, value: int) -> Generator[Any, Any, int]:
    return (yield ctx.call_activity("plus_one", input=value))


def plain(ctx: Any, value: int) -> int:
    return value + 1


async def times_ten(ctx: OrchestrationContext, input: Any, call_next: CallNext) -> Any:
    return await call_next(input * 10) * 10


async def minus_one(ctx: OrchestrationContext, input: Any, call_next: CallNext) -> Any:
    return await call_next(input - 1) - 1


@pytest.mark.parametrize("orchestrator", [plus_one, plus_one_generator])
def test_b125_it_replaces_input_and_result_the_first_outermost(orchestrator: Any) -> None:
    play = Play(orchestrator, 3, options=inside(times_ten, minus_one))
    play.start()
    assert getattr(play.actions[0], "input", None) == "29"
    play.turn(play.completed(1, 30))
    assert play.result == (30 - 1) * 10


def test_b125_a_plain_function_too() -> None:
    play = Play(plain, 3, options=inside(minus_one, times_ten))
    play.start()
    assert play.result == (2 * 10 + 1) * 10 - 1


def test_b125_it_sees_and_replaces_errors() -> None:
    async def bad(ctx: Any, value: Any) -> Any:
        raise KeyError("no")

    async def forgiving(ctx: Any, input: Any, call_next: CallNext) -> Any:
        try:
            return await call_next(input)
        except KeyError as error:
            return f"forgiven: {error.args[0]}"

    async def translating(ctx: Any, input: Any, call_next: CallNext) -> Any:
        try:
            return await call_next(input)
        except KeyError as error:
            raise ValueError("translated") from error

    play = Play(bad, options=inside(forgiving))
    play.start()
    assert play.result == "forgiven: no"
    play = Play(bad, options=inside(translating))
    play.start()
    assert (play.failure.error_type, play.failure.message) == ("ValueError", "translated")


def test_b125_it_may_do_what_orchestrators_do() -> None:
    async def audited(ctx: OrchestrationContext, input: Any, call_next: CallNext) -> Any:
        await ctx.call_activity("audit", input="begin")
        async with asyncio.timeout(60):
            result = await call_next(input)
        await ctx.create_timer(timedelta(seconds=1))
        ctx.set_custom_status("audited")
        return result

    play = Play(plus_one, 3, options=inside(audited))
    play.start()
    play.turn(play.completed(1))
    play.turn(play.completed(3, 4))
    decision = play.turn(play.fired(4))
    assert play.result == 4
    assert decision.custom_status == '"audited"'


def test_b125_it_may_leave_the_orchestrator_out_or_run_it_again() -> None:
    async def never(ctx: Any, input: Any, call_next: CallNext) -> Any:
        return "not today"

    async def twice(ctx: Any, input: Any, call_next: CallNext) -> Any:
        return await call_next(await call_next(input))

    play = Play(plus_one, 3, options=inside(never))
    play.start()
    assert (play.result, play.actions) == ("not today", [])
    play = Play(plus_one_generator, 3, options=inside(twice))
    play.start()
    play.turn(play.completed(1, 4))
    play.turn(play.completed(2, 5))
    assert play.result == 5


def test_b125_continue_as_new_counts_inside_of_it() -> None:
    async def again(ctx: Any, value: int) -> None:
        ctx.continue_as_new(value + 1)

    play = Play(again, 3, options=inside(times_ten_input))
    play.start()
    assert play.continued.input == "31"


async def times_ten_input(ctx: Any, input: Any, call_next: CallNext) -> Any:
    return await call_next(input * 10)


def test_b125_an_async_generator_is_refused_inside_of_it_as_well() -> None:
    async def wrong(ctx: Any, value: Any) -> Any:
        yield ctx.create_timer(timedelta(seconds=1))

    play = Play(wrong, options=inside(times_ten_input), input=1)
    play.start()
    assert "async generator" in play.failure.message


class Counting:
    """A middleware with a state of its own."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, ctx: Any, input: Any, call_next: CallNext) -> Any:
        self.calls += 1
        return await call_next(input)


class NotAsync:
    def __call__(self, ctx: Any, input: Any, call_next: CallNext) -> Any:
        return call_next(input)


def not_async(ctx: Any, input: Any, call_next: CallNext) -> Any:
    return call_next(input)


async def too_few(ctx: Any, call_next: CallNext) -> Any:
    return await call_next(None)


def test_functions_and_objects_are_middleware() -> None:
    counting = Counting()
    for middleware in (times_ten, counting, counting.__call__, functools.partial(times_ten)):
        assert checked_middleware(middleware) is middleware


@pytest.mark.parametrize("middleware", [Counting, None, 3, not_async, NotAsync(), too_few])
def test_anything_else_is_refused(middleware: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"middleware .*\(ctx, input, call_next\)"):
        checked_middleware(middleware)

"""Evicting an execution: its clean-up code has no effect, makes no noise, and cannot refuse."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from durabletask_azure.core.actions import Decision
from tests.unit.play import Play

HOUR = timedelta(hours=1)
CALLS: list[Callable[[Any], Any]] = [
    lambda ctx: ctx.call_activity("late"),
    lambda ctx: ctx.call_sub_orchestrator("late"),
    lambda ctx: ctx.create_timer(HOUR),
    lambda ctx: ctx.send_event("i", "late"),
    lambda ctx: ctx.wait_for_external_event("late"),
    lambda ctx: ctx.set_custom_status("late"),
    lambda ctx: ctx.continue_as_new("late"),
]


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the interpreter complains about because nobody can be told."""
    heard: list[str] = []

    def hear(args: sys.UnraisableHookArgs) -> None:
        heard.append(repr(args.exc_value))

    monkeypatch.setattr(sys, "unraisablehook", hear)
    yield heard
    gc.collect()
    assert heard == []


def evict(orchestrator: Any) -> None:
    play = Play(orchestrator, cold=False)
    assert play.start().completion is None
    play.live.close()
    play.live.close()
    del play
    gc.collect()


@pytest.mark.parametrize("act", CALLS)
def test_the_context_refuses_what_clean_up_code_asks(noise: list[str], act: Callable[[Any], Any]) -> None:
    refused: list[str] = []

    async def flow(ctx: Any) -> None:
        try:
            await ctx.call_activity("a")
        finally:
            try:
                act(ctx)
            except Exception as error:
                refused.append(type(error).__name__)
                raise

    evict(flow)
    assert refused == ["OrchestrationStateError"]


def test_coroutines_that_wait_again_are_closed_all_the_same(noise: list[str]) -> None:
    async def stubborn(ctx: Any) -> None:
        for _ in range(5):
            try:
                await ctx.call_activity("a")
            except BaseException:
                await asyncio.sleep(5)

    async def flow(ctx: Any) -> None:
        task = ctx.call_activity("a")
        try:
            await task
        finally:
            await task

    async def grouped(ctx: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(flow(ctx))
            group.create_task(asyncio.sleep(60))

    async def starting(ctx: Any) -> None:
        try:
            await ctx.call_activity("a")
        finally:
            await asyncio.create_task(flow(ctx))

    def generator(ctx: Any) -> Any:
        task = ctx.call_activity("a")
        try:
            yield task
        finally:
            yield task

    async def never_rests(ctx: Any) -> None:
        task = ctx.call_activity("a")
        tries = 0
        while tries < 50:
            try:
                await task
            except GeneratorExit:
                tries += 1

    for each in (stubborn, flow, grouped, starting, generator, never_rests):
        evict(each)


def test_open_timers_and_generators_are_dropped_silently(noise: list[str]) -> None:
    async def numbers(ctx: Any) -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await ctx.call_activity("late")

    async def flow(ctx: Any) -> None:
        stream = numbers(ctx)
        await anext(stream)
        try:
            async with asyncio.timeout(5):
                await ctx.create_timer(HOUR)
        finally:
            await stream.aclose()

    async def holding(ctx: Any) -> None:
        stream = numbers(ctx)
        await anext(stream)
        await ctx.create_timer(HOUR)

    evict(flow)
    evict(holding)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_coroutine_that_resists_for_ever_is_left_to_the_garbage_collector() -> None:
    heard: list[str] = []

    async def flow(ctx: Any) -> None:
        task = ctx.call_activity("a")
        while len(heard) < 500:
            try:
                await task
            except GeneratorExit:
                heard.append("no")

    play = Play(flow, cold=False)
    play.start()
    play.live.close()
    assert 100 <= len(heard) < 500
    del play
    gc.collect()


async def test_closing_leaves_the_engines_loop_untouched() -> None:
    loops: list[Any] = []

    async def flow(ctx: Any) -> None:
        try:
            await ctx.call_activity("a")
        finally:
            loops.append(asyncio.get_running_loop())

    outer, task = asyncio.get_running_loop(), asyncio.current_task()
    evict(flow)
    assert loops[0] is not outer
    assert (asyncio.get_running_loop(), asyncio.current_task()) == (outer, task)


def test_clean_up_changes_no_decision(noise: list[str]) -> None:
    async def flow(ctx: Any) -> None:
        timer = ctx.create_timer(HOUR)
        try:
            await timer
        finally:
            timer.cancel()

    play = Play(flow, cold=False)
    first = play.start()
    play.live.close()
    assert first == play.decision != Decision()


def test_a_keyboard_interrupt_passes_through_and_leaves_no_loop_behind() -> None:
    async def flow(ctx: Any) -> None:
        raise KeyboardInterrupt

    play = Play(flow, cold=False)
    with pytest.raises(KeyboardInterrupt):
        play.start()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()

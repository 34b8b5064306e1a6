"""Calls from one event loop to another thread's: each is answered, cancelled or failed, however many there are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from durabletask_azure.crossing import Crossing
from durabletask_azure.errors import HubUnavailableError
from durabletask_azure.hosting import EngineThread
from tests.contract.builders import WAIT_S

WHO: ContextVar[str] = ContextVar("WHO")


@pytest.fixture
def thread() -> EngineThread:
    return EngineThread("crossing-test")


def crossing_to(thread: EngineThread) -> Crossing:
    return Crossing(asyncio.get_running_loop(), thread.loop())


async def test_many_calls_are_answered_each_with_its_own_result_or_error(thread: EngineThread) -> None:
    crossing = crossing_to(thread)

    async def over_there(number: int) -> tuple[int, int]:
        await asyncio.sleep(0)
        if number % 10 == 0:
            raise ValueError(number)
        return number, threading.get_ident()

    calls = [crossing.call(lambda number=number: over_there(number)) for number in range(100)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    thread.close()

    assert [str(answer) for answer in answers if isinstance(answer, ValueError)] == [
        str(number) for number in range(0, 100, 10)
    ]
    results = [answer for answer in answers if isinstance(answer, tuple)]
    assert [number for number, _ in results] == [number for number in range(100) if number % 10]
    assert {ident for _, ident in results}.isdisjoint({threading.get_ident()})


async def test_cancelling_a_call_cancels_what_runs_over_there(thread: EngineThread) -> None:
    crossing = crossing_to(thread)
    begun, cancelled = threading.Event(), threading.Event()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    call = crossing.call(endless)
    assert await asyncio.to_thread(begun.wait, WAIT_S)
    call.cancel()

    assert await asyncio.to_thread(cancelled.wait, WAIT_S)
    thread.close()


async def test_a_call_cancelled_before_it_began_never_begins(thread: EngineThread) -> None:
    crossing = crossing_to(thread)
    blocked, go, began = threading.Event(), threading.Event(), threading.Event()

    def block() -> None:
        blocked.set()
        go.wait(WAIT_S)

    async def late() -> None:
        began.set()

    thread.loop().call_soon_threadsafe(block)
    assert await asyncio.to_thread(blocked.wait, WAIT_S)
    call = crossing.call(late)
    call.cancel()
    await asyncio.sleep(0)
    go.set()

    async def later() -> None:
        return None

    await crossing.call(later)
    thread.close()
    assert not began.is_set()


async def test_calls_under_way_fail_when_the_thread_ends(thread: EngineThread) -> None:
    crossing = crossing_to(thread)
    begun = threading.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    call = crossing.call(endless)
    assert await asyncio.to_thread(begun.wait, WAIT_S)
    await asyncio.to_thread(thread.close)
    crossing.abandon()

    with pytest.raises(HubUnavailableError, match="was closed while a call was under way"):
        await asyncio.wait_for(call, WAIT_S)


async def test_each_call_runs_in_its_callers_context(thread: EngineThread) -> None:
    crossing = crossing_to(thread)

    async def told() -> str:
        return WHO.get()

    async def ask(name: str) -> str:
        WHO.set(name)
        return await crossing.call(told)

    names = [str(number) for number in range(10)]
    answers = await asyncio.gather(*(asyncio.create_task(ask(name)) for name in names))
    thread.close()

    assert answers == names


async def test_a_call_that_cannot_be_made_fails_alone(thread: EngineThread) -> None:
    crossing = crossing_to(thread)

    def unmade() -> Coroutine[Any, Any, int]:
        raise ValueError("no coroutine")

    async def seven() -> int:
        return 7

    answers = await asyncio.gather(
        *(crossing.call(call) for call in (seven, unmade, seven)), return_exceptions=True
    )
    thread.close()

    assert [answers[0], answers[2]] == [7, 7]
    assert isinstance(answers[1], ValueError)


async def test_a_call_begins_only_after_the_round_that_asks_for_it(thread: EngineThread) -> None:
    crossing = crossing_to(thread)
    begun: list[str] = []

    async def over_there(name: str) -> None:
        begun.append(name)

    async def nothing() -> None: ...

    first = crossing.call(lambda: over_there("first"))
    thread.wait(nothing)  # the other thread is idle, and would have begun it
    assert begun == []
    second = crossing.call(lambda: over_there("second"))
    await asyncio.gather(first, second)
    thread.close()
    assert begun == ["first", "second"]


async def test_calls_fail_when_the_thread_ends_before_the_round_does(thread: EngineThread) -> None:
    crossing = crossing_to(thread)

    async def over_there() -> None: ...

    before = crossing.call(over_there)
    thread.close()
    after = crossing.call(over_there)
    async with asyncio.timeout(WAIT_S):
        for call in (before, after):
            with pytest.raises(HubUnavailableError, match="closed while a call was under way"):
                await call
        with pytest.raises(HubUnavailableError):
            await crossing.call(over_there)

"""While one partition tries what may end the process, the others of that worker wait."""

from __future__ import annotations

import asyncio

from durabletask_azure.adapters.system_clock import SystemClock
from durabletask_azure.engine.quiet import Quiet


async def test_f30_attempts_are_made_one_at_a_time_and_other_turns_wait() -> None:
    quiet = Quiet(SystemClock(), 60.0)
    await quiet.wait("c")
    await quiet.begin("a")
    await quiet.begin("a")
    await quiet.wait("a")
    second = asyncio.create_task(quiet.begin("b"))
    turn = asyncio.create_task(quiet.wait("c"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not second.done()
    assert not turn.done()
    assert quiet.is_held_by("a")

    quiet.end("c")
    assert quiet.is_held_by("a")
    quiet.end("a")
    await second
    await turn
    assert quiet.is_held_by("b")


async def test_a_turn_waits_for_an_attempt_no_longer_than_told() -> None:
    quiet = Quiet(SystemClock(), 0.01)
    await quiet.begin("a")
    await quiet.wait("b")
    assert quiet.is_held_by("a")

"""The interpreter's switch interval is short while an activity takes long, and as it was at all other times."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from durabletask_azure.engine.executor import ThreadExecutor
from durabletask_azure.engine.switch_interval import LongUnits, SwitchInterval
from tests.unit.test_executor import Collected, work


@pytest.fixture(autouse=True)
def interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield
    sys.setswitchinterval(before)


class Told(SwitchInterval):
    """Tells a loop of each change."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: asyncio.Queue[float] = asyncio.Queue()

    def shorten(self, interval_s: float) -> None:
        super().shorten(interval_s)
        self.changes.put_nowait(sys.getswitchinterval())

    def restore(self, interval_s: float) -> None:
        super().restore(interval_s)
        self.changes.put_nowait(sys.getswitchinterval())


class Looks:
    """Three threads that work as told, and the time between two looks at them."""

    def __init__(self) -> None:
        self.running: list[object | None] = [None] * 3
        self.units = 0
        self.delays: list[float] = []
        self._due: list[Callable[[], None]] = []
        self.long = LongUnits(self.running, lambda: self.units > 0, 0.001, self._call_later, SwitchInterval())

    def _call_later(self, delay: float, call: Callable[[], None]) -> None:
        self.delays.append(delay)
        self._due.append(call)

    def pass_time(self) -> float:
        """Let the next look come, and return the interval then."""
        due, self._due = self._due, []
        assert len(due) <= 1
        for one in due:
            one()
        return sys.getswitchinterval()


def test_the_shortest_interval_asked_for_holds_until_all_are_taken_back() -> None:
    switching = SwitchInterval()
    seen: list[float] = []
    for change, interval_s in (
        (switching.shorten, 0.002),
        (switching.shorten, 0.001),
        (switching.shorten, 0.004),
        (switching.restore, 0.001),
        (switching.restore, 0.002),
        (switching.restore, 0.004),
    ):
        change(interval_s)
        seen.append(sys.getswitchinterval())

    assert seen == [0.002, 0.001, 0.001, 0.002, 0.004, 0.005]


def test_a_program_that_has_a_shorter_interval_keeps_it() -> None:
    switching = SwitchInterval()
    sys.setswitchinterval(0.0005)
    switching.shorten(0.001)
    during = sys.getswitchinterval()
    switching.restore(0.001)

    assert (during, sys.getswitchinterval()) == (0.0005, 0.0005)


def test_an_interval_that_the_program_sets_meanwhile_stays() -> None:
    switching = SwitchInterval()
    switching.shorten(0.001)
    sys.setswitchinterval(0.003)
    switching.shorten(0.002)
    during = sys.getswitchinterval()
    switching.restore(0.001)
    switching.restore(0.002)

    assert (during, sys.getswitchinterval()) == (0.003, 0.003)


@pytest.mark.parametrize("before_s", [0.0, 1e-06, 0.004999, 0.05])
def test_any_interval_that_a_program_may_have_is_what_it_was(before_s: float) -> None:
    sys.setswitchinterval(before_s + 0.5e-6)
    before = sys.getswitchinterval()
    switching = SwitchInterval()
    during: list[float] = []
    for _ in range(3):
        switching.shorten(0.001)
        during.append(sys.getswitchinterval())
        switching.restore(0.001)

    assert before == pytest.approx(before_s)
    assert (sys.getswitchinterval(), *during) == (before, *[min(before, 0.001)] * 3)


def test_a_unit_seen_at_two_looks_shortens_the_interval_until_it_is_not_seen_any_more() -> None:
    looks = Looks()
    looks.units, looks.running[1] = 1, object()
    looks.long.watch()
    seen = [looks.pass_time(), looks.pass_time()]
    looks.units, looks.running[1] = 0, None

    assert [*seen, looks.pass_time()] == [0.001, 0.001, 0.005]
    assert looks.delays[1:] == [10 * looks.delays[0]] * 2  # a unit that takes hours is looked at less often
    assert not looks.long.are_watched


def test_units_that_follow_each_other_leave_the_interval_alone_and_are_looked_at_until_none_is_left() -> None:
    looks = Looks()
    looks.units = 1
    looks.long.watch()
    for unit in (object(), object(), None, None, object()):
        looks.running[0] = unit
        assert looks.pass_time() == 0.005
        assert looks.long.are_watched
    looks.units = 0
    looks.pass_time()

    assert (looks.long.are_watched, len(looks.delays)) == (False, 6)


def test_a_unit_that_began_beside_a_long_one_is_found_as_well() -> None:
    looks, second = Looks(), object()
    looks.units, looks.running[0] = 2, object()
    looks.long.watch()
    seen = [looks.pass_time()]
    looks.running[0], looks.running[1] = None, second
    seen.append(looks.pass_time())

    assert [*seen, looks.pass_time()] == [0.001, 0.005, 0.001]


def test_closing_restores_the_interval_for_good() -> None:
    looks = Looks()
    looks.units, looks.running[0] = 1, object()
    looks.long.watch()
    seen = [looks.pass_time()]
    looks.long.close()
    seen.append(sys.getswitchinterval())
    looks.long.watch()  # what is begun all the same is not looked at

    assert [*seen, looks.pass_time(), looks.pass_time()] == [0.001, 0.005, 0.005, 0.005]
    assert len(looks.delays) == 2


@pytest.mark.parametrize("closes", [False, True])
async def test_a_long_synchronous_activity_shortens_the_interval_until_it_ends_or_its_worker_does(
    closes: bool,
) -> None:
    gate, switching, collected = threading.Event(), Told(), Collected()
    executor = ThreadExecutor(2, switch_interval_s=0.001, switching=switching)
    executor.open(collected.done)

    def block(_ctx: Any, _value: Any) -> None:
        gate.wait(30)

    executor.submit(work(block))
    during = await asyncio.wait_for(switching.changes.get(), 30)
    if closes:
        await executor.close()
        after = switching.changes.get_nowait()
        gate.set()
    else:
        gate.set()
        after = await asyncio.wait_for(switching.changes.get(), 30)
        await executor.close()

    assert (during, after) == (0.001, 0.005)


async def test_an_activity_that_has_ended_is_not_found_to_take_long_again() -> None:
    gates, switching, collected = [threading.Event(), threading.Event()], Told(), Collected()
    executor = ThreadExecutor(2, switch_interval_s=0.001, switching=switching)
    executor.open(collected.done)

    async def run(first: int, count: int, gate: threading.Event) -> list[float]:
        for number in range(first, first + count):
            executor.submit(work(lambda _ctx, _value: gate.wait(30), key=number))
        during = await asyncio.wait_for(switching.changes.get(), 30)
        gate.set()
        await collected.first(first + count - 1)
        return [during, await asyncio.wait_for(switching.changes.get(), 10)]

    in_both = await run(1, 2, gates[0])
    in_one = await run(3, 1, gates[1])  # what the other thread ran last does not count
    await executor.close()

    assert (in_both, in_one) == ([0.001, 0.005], [0.001, 0.005])

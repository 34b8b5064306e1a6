"""The embedded hub's clock: never back, and never ahead of the wall clock because a thread had to wait."""

from __future__ import annotations

import time

import pytest

from durabletask_azure.adapters.local.clock import HubClock


class Machine:
    """A machine whose clocks run alike, and whose threads may lose their processor while they read one."""

    def __init__(self) -> None:
        self.us = 1_000_000
        self.lost_us = 0

    def wall_us(self) -> int:
        self.us += self.lost_us
        return self.us

    def monotonic_ns(self) -> int:
        self.us += self.lost_us
        return self.us * 1_000


def test_a_thread_that_loses_its_processor_between_two_clocks_takes_hub_time_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine()
    monkeypatch.setattr(time, "monotonic_ns", machine.monotonic_ns)
    clock = HubClock(machine.wall_us)
    clock.now_us()
    machine.lost_us = 14_000
    clock.now_us()
    machine.lost_us = 0
    assert clock.now_us() == machine.us


def test_hub_time_goes_on_where_the_wall_clock_was_when_that_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine()
    monkeypatch.setattr(time, "monotonic_ns", machine.monotonic_ns)
    back_us = 0
    clock = HubClock(lambda: machine.wall_us() - back_us)
    before = clock.now_us()
    back_us = 500_000
    machine.us += 10
    assert clock.now_us() == before + 10
    assert clock.ahead_us() == 500_000

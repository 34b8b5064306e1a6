"""Every single crash: canonical orchestrations, the worker killed at its n-th port call, before and after the effect.

A run without a fault counts the calls of the first worker's first life; then each of them is struck once. ``stride``
leaves calls out evenly, for a quick look.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.fakes.gate import Fault
from tests.simulation.faults import Plan
from tests.simulation.product import DurableTaskProduct
from tests.simulation.programs import (
    Call,
    Case,
    ClientAction,
    Detached,
    FanOut,
    Pause,
    Program,
    Race,
    Raise,
    RaiseEvent,
    SetStatus,
    Start,
    Step,
    SubCall,
    Tell,
    Terminate,
    WaitEvents,
)
from tests.simulation.run import Report, Setup, execute
from tests.simulation.runner import seeded

__all__ = ["CANONICAL", "crash_everywhere"]

KINDS = ("crash_before", "crash_after")


class _At:
    """Strikes one call of one gate, by its number; counts the calls it was asked about."""

    def __init__(self, number: int, fault: Fault | None) -> None:
        self._number = number
        self._fault = fault
        self.calls = 0

    def draw(self, gate: str, number: int, op: str, now: float) -> Fault | None:
        if gate != "w0#0":
            return None
        self.calls = number + 1
        return self._fault if number == self._number else None


def _case(*programs: Program, client: tuple[ClientAction, ...] = ()) -> Case:
    return Case(programs=programs, client=(Start(at=0, instance="r0", program=len(programs) - 1), *client))


def _program(*steps: Step, generations: int = 1, style: str = "async") -> Program:
    return Program(steps=steps, generations=generations, style=style)


def _call(site: int, **options: int | bool) -> Call:
    return Call(site=site, arg=site, cost_ms=20, **options)  # pyright: ignore[reportArgumentType]


def _event(at: float, number: int, instance: str = "r0") -> RaiseEvent:
    return RaiseEvent(at=at, instance=instance, name="news", value=3, key=f"{instance}-{number}")


_LEAF = _program(_call(90), style="generator")
_BROKEN = _program(_call(91), Raise(site=92))

CANONICAL: dict[str, Case] = {
    "chain": _case(_program(_call(1), _call(2), _call(3))),
    "fan-out": _case(_program(FanOut(site=1, calls=tuple(_call(number) for number in range(2, 7))))),
    "timer": _case(_program(Pause(site=1, seconds=2.0), _call(2), style="generator")),
    "race": _case(_program(Race(site=1, call=_call(2), timer_s=4000.0), _call(3))),
    "events": _case(
        _program(WaitEvents(site=1, name="news", count=2)), client=(_event(0.0, 1), _event(1.0, 2))
    ),
    "child": _case(_LEAF, _program(SubCall(site=1, program=0), SubCall(site=2, program=0, instance="c2"))),
    "failing child": _case(_BROKEN, _program(SubCall(site=1, program=0, caught=True), _call(2))),
    "generations": _case(
        _program(_call(1), WaitEvents(site=2, name="news"), SetStatus(site=3, text="here"), generations=3),
        client=tuple(_event(0.2 * number, number) for number in range(3)),
    ),
    "retries": _case(_program(_call(1, failures=2, attempts=3), style="generator")),
    "detached": _case(_LEAF, _program(Detached(site=1, program=0, instance="d1"), _call(2))),
    "two talk": _case(
        _program(WaitEvents(site=1, name="news")),
        _program(Tell(site=2, instance="r1", name="news", value=3), _call(3)),
        client=(Start(at=0, instance="r1", program=0),),
    ),
    "terminated": _case(
        _program(_call(1), WaitEvents(site=2, name="never")), client=(Terminate(at=1.0, instance="r0"),)
    ),
    "large": _case(_program(_call(1, pad=5000), _call(2, pad=5000), generations=2)),
}


def crash_everywhere(
    name: str, *, stride: int = 1, offset: int = 0, atomic: bool = False
) -> Iterator[Report]:
    """Yield the report of a run without a fault, then of each run with one that did not keep the invariants."""
    counting = _At(-1, None)
    report = _run(name, counting, atomic)
    yield report
    for number in range(offset % stride, counting.calls, stride):
        for kind in KINDS:
            report = _run(name, _At(number, Fault(kind)), atomic)
            if report.failures:
                report.failures.insert(0, f"{name}: {kind} call {number}")
                yield report


def _run(name: str, strike: _At, atomic: bool) -> Report:
    setup = Setup(
        seed=7,
        case=CANONICAL[name],
        plan=Plan(profile="calm", heal=0.0),
        faults=lambda: strike,
        workers=1,
        partitions=2,
        atomic=atomic,
        faultless=False,
    )
    with seeded(setup.seed):
        return execute(setup, DurableTaskProduct())

"""What a case must come to: computed from the data alone, knowing nothing of the product.

Every step folds a number into the result, so a step that was lost, repeated or swapped shows. Where a race is
legitimate both ends fold the same number; a terminated instance waits for an event that never comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.simulation.programs import (
    Again,
    Call,
    Case,
    Detached,
    FanOut,
    Kill,
    Parallel,
    Pause,
    Program,
    Purge,
    Race,
    Raise,
    RaiseEvent,
    Reset,
    Resume,
    Rewind,
    SetStatus,
    Start,
    Step,
    SubCall,
    Suspend,
    Tell,
    Terminate,
    WaitEvents,
    WaitTimeout,
)

__all__ = ["BAD", "CAUGHT", "OK", "Expected", "activity_value", "expect", "mix"]

_MODULUS = 1_000_003
OK = 11
"""What a legitimate race, a timer or a sent event folds in."""
CAUGHT = 13
"""What a caught failure folds in."""
BAD = 999
"""What the interpreter folds in when it saw something that must not be (an early timer, a wrong winner)."""


def mix(number: int, value: int) -> int:
    """Fold a step's value in."""
    return (number * 31 + value + 7) % _MODULUS


def activity_value(site: int, arg: int) -> int:
    """Return what an activity returns."""
    return (arg * 7 + site) % _MODULUS


@dataclass(frozen=True, slots=True)
class Expected:
    """How an instance must end. ``status`` as stored; ``optional``: it need not exist; ``then``: its second life."""

    status: str
    result: int | None = None
    error: str | None = None
    custom_status: str | None = None
    optional: bool = False
    then: Expected | None = None


class _Failed(Exception):
    pass


def expect(case: Case) -> dict[str, Expected]:
    """Return what each instance with a known id must end as."""
    return _Model(case).run()


class _Model:
    def __init__(self, case: Case) -> None:
        self._case = case
        self._values: dict[tuple[str, str], int] = {}
        self._found: dict[str, Expected] = {}
        for action in case.client:
            if isinstance(action, RaiseEvent):
                self._values[action.instance, action.name] = action.value
        for program in case.programs:
            for step in program.steps:
                if isinstance(step, Tell):
                    self._values[step.instance, step.name] = step.value

    def run(self) -> dict[str, Expected]:
        doomed: set[str] = set()
        starts: list[Start] = []
        for action in self._case.client:
            match action:
                case Start():
                    starts.append(action)
                case Terminate():
                    doomed.add(action.instance)
                case RaiseEvent() | Suspend() | Resume() | Again() | Purge():
                    pass
                case Rewind() | Reset():
                    pass  # what runs again comes to the same
        for start in starts:
            if start.instance in doomed:
                self._children(start.program)
                self._found[start.instance] = Expected("TERMINATED")
            else:
                self._instance(start.instance, start.program)
        for action in self._case.client:
            if isinstance(action, Again):
                then = self._outcome(action.instance, self._case.programs[action.program])
                self._found[action.instance] = replace(self._found[action.instance], then=then)
        return self._found

    def _children(self, program: int) -> None:
        """The explicit children of a terminated instance: each may have been started, and then ends by itself."""
        for step in self._case.programs[program].steps:
            if isinstance(step, SubCall | Detached) and step.instance:
                outcome = self._instance(step.instance, step.program)
                self._found[step.instance] = Expected(
                    outcome.status, outcome.result, outcome.error, outcome.custom_status, optional=True
                )

    def _instance(self, instance: str, program: int) -> Expected:
        outcome = self._outcome(instance, self._case.programs[program])
        if instance:
            self._found[instance] = outcome
        return outcome

    def _outcome(self, instance: str, program: Program) -> Expected:
        number, status = 1, None
        try:
            for _generation in range(program.generations):
                for step in program.steps:
                    if isinstance(step, SetStatus):
                        status = step.text
                    number = mix(number, self._value(instance, step))
        except _Failed as failure:
            return Expected("FAILED", error=failure.args[0], custom_status=status)
        return Expected("COMPLETED", result=number, custom_status=status)

    def _value(self, instance: str, step: Step) -> int:
        match step:
            case Call():
                return self._call(step)
            case FanOut(calls=calls):
                return _fold([self._call(call) for call in calls])
            case Race() | Pause() | WaitTimeout() | SetStatus() | Tell():
                return OK
            case WaitEvents(name=name, count=count):
                return self._values[instance, name] * count
            case SubCall(program=program, caught=caught):
                outcome = self._instance(step.instance, program)
                if outcome.result is not None:
                    return outcome.result
                if caught:
                    return CAUGHT
                raise _Failed(outcome.error)
            case Detached():
                self._instance(step.instance, step.program)
                return OK
            case Raise(site=site):
                raise _Failed(f"boom-{site}")
            case Kill():
                raise _Failed("could not be handled")
            case Parallel(branches=branches):
                return _fold([_fold([self._value("", one) for one in branch]) for branch in branches])

    def _call(self, call: Call) -> int:
        if call.kills:
            raise _Failed("times without a result")
        if call.failures < call.attempts:
            return activity_value(call.site, call.arg)
        if call.caught:
            return CAUGHT
        raise _Failed(f"boom-{call.site}")


def _fold(values: Sequence[int]) -> int:
    number = 1
    for value in values:
        number = mix(number, value)
    return number

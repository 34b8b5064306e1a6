"""Make a failing run smaller: leave out faults, instances, steps, generations and workers while it still fails.

A case, a plan and the record of call faults are data, so a smaller run is just smaller data. What others count on is
replaced, not lost: an event that a removed step sent is raised by the client instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from tests.simulation.faults import CallFault, Plan
from tests.simulation.programs import (
    Case,
    Program,
    Resume,
    Start,
    Suspend,
    Tell,
    WaitEvents,
)
from tests.simulation.run import Report, Setup
from tests.simulation.runner import run_case, run_seed, setup_of
from tests.simulation.variants import told_by_client

__all__ = ["shrink", "smaller_cases"]

RUNS_MAX = 300


@dataclass(frozen=True, slots=True)
class _Candidate:
    case: Case
    plan: Plan
    script: tuple[CallFault, ...]


def shrink(seed: int, profile: str, mutant: str | None = None) -> str:
    """Return a description of the smallest failing run found, starting from a seed."""
    first = run_seed(seed, profile, mutant)
    if not first.failures:
        return f"seed {seed} ({profile}) does not fail"
    setup = setup_of(seed, profile)
    best = _Candidate(setup.case, setup.plan, first.script)
    report = _try(setup, best, mutant, first.letters) or first
    runs = 0
    found = True
    while found and runs < RUNS_MAX:
        found = False
        for candidate in _smaller(best):
            runs += 1
            again = _try(setup, candidate, mutant, report.letters)
            if again is not None:
                best, report, found = candidate, again, True
                break
            if runs >= RUNS_MAX:
                break
    return _describe(best, report, runs)


def _try(setup: Setup, candidate: _Candidate, mutant: str | None, letters: frozenset[str]) -> Report | None:
    report = run_case(setup, candidate.case, candidate.plan, candidate.script, mutant)
    return report if report.letters & letters else None


def _describe(best: _Candidate, report: Report, runs: int) -> str:
    lines = [f"after {runs} runs:", msgspec.json.format(msgspec.json.encode(best.case)).decode()]
    lines += [f"window {window}" for window in best.plan.windows]
    lines += [f"fault {item.gate} call {item.number} {item.op}: {item.fault}" for item in best.script]
    return "\n".join([*lines, *report.failures[:10]])


def _smaller(best: _Candidate) -> Iterator[_Candidate]:
    script, windows = best.script, best.plan.windows
    for size in (len(script), len(script) // 2, len(script) // 4, 1):
        if size:
            for start in range(0, len(script), size):
                yield _Candidate(best.case, best.plan, script[:start] + script[start + size :])
    for index in range(len(windows)):
        fewer = msgspec.structs.replace(best.plan, windows=windows[:index] + windows[index + 1 :])
        yield _Candidate(best.case, fewer, script)
    for case in smaller_cases(best.case):
        yield _Candidate(case, best.plan, script)


def smaller_cases(case: Case) -> Iterator[Case]:
    """Yield cases with one root instance, step, generation or suspension less, all of them sound."""
    starts = [action for action in case.client if isinstance(action, Start)]
    for start in starts if len(starts) > 1 else ():
        yield _without_instance(case, start)
    for number, program in enumerate(case.programs):
        for index in range(len(program.steps)):
            smaller = _without_step(case, number, program, index)
            if smaller is not None:
                yield smaller
        waits = any(isinstance(step, WaitEvents) for step in program.steps)
        if program.generations > 1 and not waits:
            yield _with_program(case, number, msgspec.structs.replace(program, generations=1))
    if any(isinstance(action, Suspend | Resume) for action in case.client):
        kept = tuple(action for action in case.client if not isinstance(action, Suspend | Resume))
        yield msgspec.structs.replace(case, client=kept)


def _with_program(case: Case, number: int, program: Program) -> Case:
    programs = (*case.programs[:number], program, *case.programs[number + 1 :])
    return msgspec.structs.replace(case, programs=programs)


def _without_step(case: Case, number: int, program: Program, index: int) -> Case | None:
    step = program.steps[index]
    if isinstance(step, WaitEvents) or len(program.steps) == 1:
        return None
    steps = program.steps[:index] + program.steps[index + 1 :]
    smaller = _with_program(case, number, msgspec.structs.replace(program, steps=steps))
    return told_by_client(smaller, [step]) if isinstance(step, Tell) else smaller


def _without_instance(case: Case, start: Start) -> Case:
    """Leave out a root; what it told others the client raises, and what others told it is not sent."""
    tells = [step for step in case.programs[start.program].steps if isinstance(step, Tell)]
    client = tuple(action for action in case.client if action.instance != start.instance)
    programs = tuple(
        msgspec.structs.replace(
            program,
            steps=tuple(
                step
                for step in program.steps
                if not (isinstance(step, Tell) and step.instance == start.instance)
            ),
        )
        for program in case.programs
    )
    return told_by_client(msgspec.structs.replace(case, client=client, programs=programs), tells)

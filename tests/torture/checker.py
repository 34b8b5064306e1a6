"""The judge: what was lost, what is wrong, what happened twice.

It goes by the clients' journals, by the lines that activities left, and by a model that knows no hub; what the hub says
is what is judged. Each complaint is a line of text.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from durabletask_azure import history
from tests.torture import journal
from tests.torture.expectations import (
    COMPLETED,
    KINDS_WITHOUT_PAUSES,
    TERMINATED,
    Expected,
    Start,
    expected,
    steps_of,
    to_hear,
)
from tests.torture.programs import CHILD, OLD, Outcome, Run

# What a clock of the broker's in microseconds and one of the activities' may differ by on one machine.
_CLOCK_S: Final = 0.005
_CLOSING: Final = (
    history.TaskCompletedEvent,
    history.TaskFailedEvent,
    history.SubOrchestrationInstanceCompletedEvent,
    history.SubOrchestrationInstanceFailedEvent,
)


@dataclass(frozen=True)
class Found:
    """An instance as the hub has it after the run."""

    status: str
    output: str | None
    ended_at: float | None
    history: Sequence[history.HistoryEvent] = ()


@dataclass
class Verdict:
    """What the judge found."""

    started: int = 0
    ended: int = 0
    runs: int = 0
    lost: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])
    double: list[str] = field(default_factory=list[str])
    slowest_s: float = 0.0
    slowest: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is amiss."""
        return not (self.lost or self.wrong or self.double)


@dataclass
class Evidence:
    """What clients and activities wrote down."""

    starts: dict[str, Start] = field(default_factory=dict[str, Start])
    accepted: dict[str, float] = field(default_factory=dict[str, float])
    observed: dict[str, list[tuple[str, str | None]]] = field(
        default_factory=dict[str, list[tuple[str, str | None]]]
    )
    purging: set[str] = field(default_factory=set[str])
    purged: set[str] = field(default_factory=set[str])
    runs: dict[tuple[str, str], list[Run]] = field(default_factory=lambda: defaultdict(list))
    begun: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When the steps of each instance first ran."""

    @classmethod
    def read(cls, folder: Path) -> Evidence:
        """Read all that is in the folder of a run."""
        evidence = cls()
        for path in sorted(folder.glob("client-*.jsonl")):
            evidence.take(journal.read(path))
        for path in sorted(folder.glob("runs-*.jsonl")):
            # One that a kill has cut off is of an activity that never came to return anything.
            for line in journal.whole_lines(path):
                run = msgspec.json.decode(line, type=Run)
                evidence.runs[run.instance, run.label].append(run)
        for (instance, _), runs in evidence.runs.items():
            runs.sort(key=lambda run: run.at)
            evidence.begun[instance].append(runs[0].at)
        return evidence

    def take(self, entries: Iterable[journal.Entry]) -> None:
        """Take the lines of one journal."""
        for entry in entries:
            match entry.what:
                case "intent":
                    assert entry.start is not None
                    self.starts[entry.instance] = entry.start
                case "accepted":
                    self.accepted.setdefault(entry.instance, entry.at)
                case "observed":
                    self.observed.setdefault(entry.instance, []).append((entry.status, entry.output))
                case "purging":
                    self.purging.add(entry.instance)
                case "purged":
                    self.purged.add(entry.instance)
                case what:
                    raise AssertionError(f"a journal holds a line {what!r}")


def judge(evidence: Evidence, found: Mapping[str, Found]) -> Verdict:
    """Judge a run: `found` holds every instance the hub has."""
    verdict = Verdict(started=len(evidence.accepted), runs=sum(map(len, evidence.runs.values())))
    for instance, start in evidence.starts.items():
        _judge_instance(verdict, evidence, start, found.get(instance))
    asked_for = {step for start in evidence.starts.values() for step in steps_of(start)}
    for step, runs in evidence.runs.items():
        _judge_runs(verdict, step, runs)
        if step not in asked_for:
            verdict.double.append(f"{step[0]}: step {step[1]} ran, and nobody asked for it")
    for instance, there in found.items():
        root, _, child = instance.partition(CHILD)
        if root in evidence.purged:
            verdict.double.append(f"{instance}: purged, and there again as {there.status}")
        if root not in evidence.starts:
            verdict.double.append(f"{instance}: {there.status}, and nobody started it")
        elif child and there.status != COMPLETED:
            verdict.lost.append(f"{instance}: a child, and {there.status}")
        _judge_history(verdict, instance, there.history)
    return verdict


def _judge_instance(verdict: Verdict, evidence: Evidence, start: Start, there: Found | None) -> None:
    instance = start.instance
    observed = evidence.observed.get(instance, [])
    ends = list(observed)
    if there is None:
        if instance in evidence.accepted and instance not in evidence.purging:
            verdict.lost.append(f"{instance}: accepted, and there is no such instance")
            return
    elif there.status in (COMPLETED, TERMINATED, "FAILED"):
        ends.append((there.status, there.output))
    else:
        verdict.lost.append(f"{instance}: accepted, and still {there.status}")
        return
    if not ends:
        if instance in evidence.accepted:
            verdict.lost.append(f"{instance}: accepted, and nobody saw its end")
        return
    verdict.ended += 1
    if len(set(ends)) > 1:
        verdict.double.append(f"{instance}: ended more than once: {sorted(map(str, set(ends)))}")
    _judge_end(verdict, evidence, start, *ends[-1])
    if there is not None and start.kind in KINDS_WITHOUT_PAUSES and start.version == OLD:
        _measure(verdict, evidence, start, there)


def _judge_end(verdict: Verdict, evidence: Evidence, start: Start, status: str, output: str | None) -> None:
    instance = start.instance
    if start.kind == "halted":
        wanted = msgspec.json.encode(f"halted {instance}").decode()
        if (status, output) != (TERMINATED, wanted):
            verdict.wrong.append(f"{instance}: {status} {output}, not {TERMINATED} {wanted}")
        return
    if status != COMPLETED or output is None:
        verdict.wrong.append(f"{instance}: {status} {output}, not {COMPLETED}")
        return
    outcome = msgspec.json.decode(output, type=Outcome)
    heard = list(outcome.heard)
    if len(set(heard)) < len(heard):
        verdict.double.append(f"{instance}: heard an event twice: {heard}")
    elif sorted(heard) != sorted(to_hear(start)):
        verdict.wrong.append(f"{instance}: heard {sorted(heard)}, not {sorted(to_hear(start))}")
    wanted = expected(start, heard)
    if outcome.value != wanted.value:
        verdict.wrong.append(f"{instance}: {outcome.value}, not {wanted.value}")
    _judge_tokens(verdict, evidence, instance, outcome, wanted)
    _judge_steps(verdict, evidence, wanted)


def _judge_tokens(
    verdict: Verdict, evidence: Evidence, instance: str, outcome: Outcome, wanted: Expected
) -> None:
    """Each step's result must come from a run of that step, and each step once."""
    steps = Counter((where, label) for where, label, _ in outcome.tokens)
    if steps != Counter(dict.fromkeys(wanted.calls, 1)):
        verdict.wrong.append(f"{instance}: it took the steps {dict(steps)}, not {list(wanted.calls)}")
    for where, label, token in outcome.tokens:
        if token not in {run.token for run in evidence.runs.get((where, label), ())}:
            verdict.wrong.append(f"{instance}: the result of step {where} {label} comes from no run of it")


def _judge_steps(verdict: Verdict, evidence: Evidence, wanted: Expected) -> None:
    """Each step must have been called as often as it should, with what it should."""
    before: float | None = None
    for (instance, label), count in wanted.calls.items():
        runs = evidence.runs.get((instance, label), [])
        keys = {run.key for run in runs}
        if len(keys) > count:
            verdict.double.append(f"{instance}: step {label} was called {len(keys)} times, not {count}")
        elif len(keys) < count:
            verdict.wrong.append(f"{instance}: step {label} was called {len(keys)} times, not {count}")
        if {run.value for run in runs} - {wanted.values[instance, label]}:
            verdict.wrong.append(f"{instance}: step {label} was given a wrong value")
        if wanted.pause_s and runs and before is not None and runs[0].at < before + wanted.pause_s - _CLOCK_S:
            verdict.wrong.append(f"{instance}: step {label} came before its timer was due")
        before = runs[0].at if runs else None


def _judge_runs(verdict: Verdict, step: tuple[str, str], runs: Sequence[Run]) -> None:
    """All runs of one call were given the same: two owners would have come to differ."""
    given: dict[str, int] = {}
    for run in runs:
        if given.setdefault(run.key, run.value) != run.value:
            verdict.double.append(f"{step[0]}: one call of step {step[1]} was given two values")


def _judge_history(verdict: Verdict, instance: str, events: Sequence[history.HistoryEvent]) -> None:
    """Each task of the hub's own history is completed at most once, and the execution too."""
    closed: Counter[str] = Counter()
    for event in events:
        if isinstance(event, _CLOSING):
            closed[f"task {event.task_scheduled_id}"] += 1
        elif isinstance(event, history.TimerFiredEvent):
            closed[f"timer {event.timer_id}"] += 1
        elif isinstance(event, history.ExecutionStartedEvent):
            closed["start"] += 1
        elif isinstance(event, history.ExecutionCompletedEvent):
            closed["end"] += 1
    twice = [what for what, count in closed.items() if count > 1]
    if twice:
        verdict.double.append(f"{instance}: its history has twice: {', '.join(twice)}")


def _measure(verdict: Verdict, evidence: Evidence, start: Start, there: Found) -> None:
    """Find the longest an instance stood still that waits for nothing but its own steps."""
    instance = start.instance
    moments = sorted(evidence.begun.get(instance, []))
    if instance in evidence.accepted and moments:
        moments.insert(0, min(evidence.accepted[instance], moments[0]))
    if there.ended_at is not None:
        moments.append(there.ended_at)
    for one, next_one in pairwise(moments):
        if next_one - one > verdict.slowest_s:
            verdict.slowest_s, verdict.slowest = next_one - one, instance

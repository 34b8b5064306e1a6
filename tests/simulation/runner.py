"""Many seeds: which profile a seed runs under, the summary, and the command that replays a failure.

``python -m tests.simulation --seeds 0:2000 --jobs 2`` runs seeds, ``--seed N --verbose`` replays one with its trace,
``--shrink N`` looks for a smaller case that still fails. Strings hash differently in every Python process unless told
otherwise, and what iterates over a set of them then does too: the command line therefore starts itself again with
``PYTHONHASHSEED=0``.
"""

from __future__ import annotations

import json
import random as global_random
import time
import uuid
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from tests.simulation.catalogue import fault_table
from tests.simulation.faults import PROFILES, CallFault, DrawnFaults, Plan, ScriptedFaults, plan
from tests.simulation.mutants import MUTANTS
from tests.simulation.product import DurableTaskProduct
from tests.simulation.programs import Case, generate
from tests.simulation.run import Report, Setup, execute
from tests.simulation.variants import vary

__all__ = [
    "kill",
    "killing_seeds",
    "profile_of",
    "replay_command",
    "run_case",
    "run_regressions",
    "run_seed",
    "run_seeds",
    "seeded",
    "setup_of",
    "summarise",
]

_HERE = Path(__file__).parent
_PROGRESS = 2_500
_OUT_OF_TURN = ("rewinds", "uncounted")
"""Profiles that came later: with them in the rotation every seed of old would be another run."""
_ROTATION = (*(name for name in PROFILES if name not in _OUT_OF_TURN), "mixed", "mixed", "mixed")


def profile_of(seed: int) -> str:
    """Return the profile a seed runs under unless told otherwise."""
    return _ROTATION[seed % len(_ROTATION)]


def replay_command(seed: int, profile: str, mutant: str | None = None) -> str:
    """Return the command that runs one seed again."""
    extra = f" --mutant {mutant}" if mutant else ""
    return f"python -m tests.simulation --seed {seed} --profile {profile}{extra}"


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Make what the product draws at random (ids of tenures and executions, jitter) depend on the seed alone."""
    stream = Random(f"ids/{seed}")
    state, uuid4 = global_random.getstate(), uuid.uuid4
    global_random.seed(seed)
    uuid.uuid4 = lambda: uuid.UUID(int=stream.getrandbits(128), version=4)
    try:
        yield
    finally:
        uuid.uuid4 = uuid4
        global_random.setstate(state)


def setup_of(seed: int, profile: str | None = None) -> Setup:
    """Return what a seed runs."""
    chosen = profile or profile_of(seed)
    random = Random(f"setup/{seed}")
    workers = random.choice((2, 2, 3))
    plotted = plan(seed, chosen, workers)
    return Setup(
        seed=seed,
        case=vary(generate(seed), PROFILES[chosen].variant, seed),
        plan=plotted,
        faults=lambda: DrawnFaults(seed, chosen, plotted.heal),
        workers=workers,
        partitions=random.choice((1, 2, 2, 3)),
        atomic=random.random() < 0.15,
        faultless=chosen == "calm",
    )


def run_seed(seed: int, profile: str | None = None, mutant: str | None = None, tracer: Any = None) -> Report:
    """Run one seed and judge it; the report lists what was broken, if anything."""
    setup = setup_of(seed, profile)
    if tracer is not None:
        setup = replace(setup, tracer=tracer)
    return _run(setup, mutant)


def run_case(
    setup: Setup, case: Case, plotted: Plan, script: Sequence[CallFault], mutant: str | None = None
) -> Report:
    """Run a changed case under changed faults, all else as in ``setup``."""
    chosen = tuple(script)
    return _run(replace(setup, case=case, plan=plotted, faults=lambda: ScriptedFaults(chosen)), mutant)


def _run(setup: Setup, mutant: str | None) -> Report:
    with seeded(setup.seed):
        if mutant is None:
            return execute(setup, DurableTaskProduct())
        with MUTANTS[mutant].applied():
            return execute(setup, DurableTaskProduct())


def _job(task: tuple[int, str | None, str | None]) -> Report:
    return run_seed(*task)


def run_seeds(
    seeds: Sequence[int], *, profile: str | None = None, mutant: str | None = None, jobs: int = 1
) -> Iterator[Report]:
    """Run seeds, in order, in up to ``jobs`` processes."""
    tasks = [(seed, profile, mutant) for seed in seeds]
    if jobs == 1:
        yield from map(_job, tasks)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_job, tasks, chunksize=10)


def run_regressions() -> Iterator[Report]:
    """Run the seeds that once failed."""
    for entry in json.loads((_HERE / "regressions.json").read_text()):
        yield run_seed(entry["seed"], entry["profile"])


def killing_seeds() -> dict[str, dict[str, Any]]:
    """Return, by mutant, the profile and seed that catch it, and the invariants that break."""
    return json.loads((_HERE / "killing_seeds.json").read_text())


def kill(name: str) -> int:
    """Run a mutant's recorded seed without it and with it; return 0 if only the mutant fails, by what is recorded."""
    entry = killing_seeds()[name]
    sound = run_seed(entry["seed"], entry["profile"])
    broken = run_seed(entry["seed"], entry["profile"], name)
    print(f"without {name}: {sound.failures}")
    print(f"with {name}: {broken.failures[:3]}")
    return 0 if not sound.failures and set(entry["broke"]) <= broken.letters else 1


def summarise(reports: Iterator[Report], mutant: str | None, failures_max: int = 5) -> int:
    """Print failures as they come and a summary at the end; return how many seeds failed."""
    began, runs, failed = time.perf_counter(), 0, 0
    counts: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    for report in reports:
        runs += 1
        counts.update(report.counts)
        if runs % _PROGRESS == 0:
            print(f"{runs} seeds, {failed} failed\n{fault_table(counts)}", flush=True)
        if not report.failures:
            continue
        failed += 1
        letters.update(report.letters)
        print(f"seed {report.seed} ({report.profile}) broke {', '.join(sorted(report.letters))}")
        for text in report.failures[:6]:
            print(f"  {text[:600]}")
        print(f"  again: {replay_command(report.seed, report.profile, mutant)}")
        if failed >= failures_max:
            break
    seconds = time.perf_counter() - began
    pace = f"; {runs / seconds * 60:.0f} seeds per minute" if runs > 1 else ""
    print(f"{runs} seeds, {failed} failed {dict(letters) or ''}{pace}")
    print(fault_table(counts), flush=True)
    return failed

"""The command line of the simulator; see ``runner``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from tests.simulation.faults import PROFILES
from tests.simulation.mutants import MUTANTS
from tests.simulation.runner import kill, profile_of, run_regressions, run_seed, run_seeds, summarise
from tests.simulation.shrink import shrink


def _show(now: float, parts: tuple[Any, ...]) -> None:
    print(f"{now:12.4f}", *parts)


def main() -> int:
    """Parse the arguments, run, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:300", help="first:end, the end left out")
    parser.add_argument("--seed", type=int, help="run one seed")
    parser.add_argument("--verbose", action="store_true", help="with --seed: print the trace")
    parser.add_argument("--shrink", type=int, metavar="SEED", help="look for a smaller case that fails")
    parser.add_argument("--profile", choices=tuple(PROFILES))
    parser.add_argument("--mutant", choices=tuple(MUTANTS))
    parser.add_argument(
        "--kill", choices=tuple(MUTANTS), help="run a mutant's recorded seed with and without it"
    )
    parser.add_argument("--regressions", action="store_true", help="run the seeds that once failed")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--failures", type=int, default=5, help="stop after so many")
    options = parser.parse_args()
    if options.shrink is not None:
        print(shrink(options.shrink, options.profile or profile_of(options.shrink), options.mutant))
        return 0
    if options.kill is not None:
        return kill(options.kill)
    if options.regressions:
        return min(1, summarise(run_regressions(), None))
    if options.seed is not None:
        tracer = _show if options.verbose else None
        report = run_seed(options.seed, options.profile, options.mutant, tracer)
        print(f"{report.virtual_s:.0f} virtual seconds, {report.calls} calls, trace {report.trace_hash}")
        return min(1, summarise(iter((report,)), options.mutant))
    first, end = (int(part) for part in options.seeds.split(":"))
    reports = run_seeds(range(first, end), profile=options.profile, mutant=options.mutant, jobs=options.jobs)
    return min(1, summarise(reports, options.mutant, options.failures))


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        arguments = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, arguments, {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606
    sys.exit(main())

"""W1 to W4 on our hub and on its peers: interleaved runs, medians, and whether the targets are reached.

Each run is a new process with new servers and data. The runs are interleaved, all systems once and then again, so that
a slow spell of the machine meets all of them. Rates and times are wall time as the client sees it.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.fresh import in_fresh_process, last_line
from benchmarks.own import OWN_SPREAD, OWN_SYSTEM, OWN_SYSTEMS
from benchmarks.peers.environment import prepare
from benchmarks.tables import figure, table
from benchmarks.targets import SMALL_SAYS, judge
from benchmarks.workloads import FULL, SMALL, Run, Sizes

__all__ = ["PEERS", "compare"]

PEERS = ("restate", "durabletask-proc", "durabletask-inproc")
"""What may be run beside our hub."""

_ASYNC, _LOOP = "started at once, async client", "started one by one, sync client"


def compare(*, repetitions: int, small: bool, peers: Sequence[str], folder: Path, out: Path | None) -> int:
    """Run everything, print the tables and the verdicts, and return 0; 1 if a system could not be run."""
    systems, missing = _systems(peers, folder, small)
    runs: list[Run] = []
    failed = dict(missing)
    for repetition in range(repetitions):
        # Each time another one begins: what a system leaves behind (caches, writes under way) meets them all.
        turn = repetition % len(systems)
        for name, start in [*systems.items()][turn:] + [*systems.items()][:turn]:
            begun = time.monotonic()
            try:
                runs.append(start())
                end = "done"
            except RuntimeError as error:
                failed[name] = str(error)
                end = "FAILED"
            spent = f"{time.monotonic() - begun:.0f} s"
            print(
                f"run {repetition + 1} of {repetitions}: {name} {end}, {spent}", file=sys.stderr, flush=True
            )
    order = {system: place for place, system in enumerate(OWN_SYSTEMS)}
    runs.sort(key=lambda run: order.get(run.system, len(order)))
    if not {run.system for run in runs}.issuperset(OWN_SYSTEMS):
        print("our own hub did not run; see above", file=sys.stderr)
        return 1
    print(_report(runs, FULL if not small else SMALL, is_judged=not small))
    for name, reason in failed.items():
        print(f"\nNOT COMPLETE  {name}: {reason}")
    if out is not None:
        out.write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n", encoding="utf-8")
    return 1 if failed else 0


def _systems(
    peers: Sequence[str], folder: Path, small: bool
) -> tuple[dict[str, Callable[[], Run]], dict[str, str]]:
    """Return how to run each system once, and why some cannot be run."""
    size = "small" if small else "full"

    def own(system: str) -> Callable[[], Run]:
        return lambda: Run(**in_fresh_process("own", small=small, system=system))

    systems: dict[str, Callable[[], Run]] = {system: own(system) for system in OWN_SYSTEMS}
    if not peers:
        return systems, {}
    environment = prepare(folder)
    python = str(environment.python)
    commands = {
        "restate": ["benchmarks.peers.restate_server", str(environment.restate_server)],
        "durabletask-proc": ["benchmarks.peers.durabletask_inmemory", "proc"],
        "durabletask-inproc": ["benchmarks.peers.durabletask_inmemory", "inproc"],
    }

    def starter(command: list[str]) -> Callable[[], Run]:
        return lambda: Run(**last_line([python, "-m", *command, size]))

    for name in peers:
        if name not in environment.missing:
            systems[name] = starter(commands[name])
    return systems, {name: environment.missing[name] for name in peers if name in environment.missing}


def _report(runs: Sequence[Run], sizes: Sizes, *, is_judged: bool) -> str:
    by_system: dict[str, list[Run]] = {}
    for run in runs:
        by_system.setdefault(run.system, []).append(run)
    parts = [_machine(runs), _setups(by_system), *_workload_tables(by_system, sizes), _yardsticks(by_system)]
    if is_judged:
        medians = {
            system: {key: statistics.median(run.figures[key] for run in own) for key in own[0].figures}
            for system, own in by_system.items()
        }
        parts.append("Targets\n" + "\n".join(map(str, judge(medians, OWN_SYSTEM, OWN_SPREAD))))
    else:
        parts.append(SMALL_SAYS)
    return "\n\n".join(parts)


def _machine(runs: Sequence[Run]) -> str:
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return f"{now}, {os.cpu_count()} processors, {platform.platform()}, Python {runs[0].python}"


def _setups(by_system: Mapping[str, Sequence[Run]]) -> str:
    lines: list[str] = []
    for system, runs in by_system.items():
        versions = ", ".join(f"{name} {version}" for name, version in runs[0].versions.items())
        lines.append(f"{system}: {versions}; {runs[0].setup}")
    for system in OWN_SYSTEMS:
        hub = by_system[system][-1].hub
        lines.append(
            f"The database of {system}, read from the running hub at the end of its last run: SQLite {hub['SQLite']},"
            f" journal_mode={hub['journal_mode']}, synchronous={hub['synchronous']}; {hub['commits']:,} commits,"
            f" {hub['durable commits']:,} of them waited for the disk; {hub['requests']:,} requests to write"
        )
    return "\n".join(lines)


def _workload_tables(by_system: Mapping[str, Sequence[Run]], sizes: Sizes) -> list[str]:
    many = f"{sizes.w1_orchestrations} orchestrations of {sizes.w1_steps} activities"
    titles = {
        "W1": f"W1 {many}, all at once: orchestrations/s",
        "W1 cpu": "W1 processor time of all processes: ms per orchestration",
        "W2": f"W2 one fan-out of {sizes.w2_width:,} activities: s",
        "W3 p50": f"W3 {sizes.w3_orchestrations} orchestrations of one activity, one after the other: median, ms",
        "W3 p95": "W3, 95th percentile: ms",
        **{f"W4 {steps}": f"W4 one chain of {steps} activities: s" for steps in sizes.w4_steps},
        "W4 cpu": f"W4 processor time of all processes, {sizes.w4_steps[-1]} steps: ms per step",
    }
    tables = [_one_table(title, key, by_system) for key, title in titles.items()]
    peaks = [
        (system, _spread([sum(run.peak_rss_mib.values()) for run in runs]))
        for system, runs in by_system.items()
    ]
    memory = table(("peak memory of all processes: MiB", *_SPREAD), [(name, *cells) for name, cells in peaks])
    return [*tables, memory]


_SPREAD = ("median", "min", "max")


def _one_table(title: str, key: str, by_system: Mapping[str, Sequence[Run]]) -> str:
    rows: list[tuple[str, ...]] = []
    for system, runs in by_system.items():
        is_own_w1 = key == "W1" and system in OWN_SYSTEMS
        name = f"{system}, {_ASYNC}" if is_own_w1 else system
        rows.append((name, *_spread([run.figures[key] for run in runs])))
        if is_own_w1:
            rows.append((f"{system}, {_LOOP}", *_spread([run.figures["W1 loop"] for run in runs])))
    return table((title, *_SPREAD), rows)


def _yardsticks(by_system: Mapping[str, Sequence[Run]]) -> str:
    names = next(iter(by_system.values()))[0].yardsticks
    rows: list[tuple[str, ...]] = []
    for name in names:
        medians = [
            figure(statistics.median(run.yardsticks[name] for run in runs)) for runs in by_system.values()
        ]
        rows.append((name, *medians))
    return table(("yardsticks around the runs (median)", *by_system), rows)


def _spread(values: Sequence[float]) -> tuple[str, str, str]:
    return figure(statistics.median(values)), figure(min(values)), figure(max(values))

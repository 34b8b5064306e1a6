"""Where a step's microseconds go: processor time by thread, and within the hub's two threads by layer and module.

The time of a thread is read from its own clock (``CLOCK_THREAD_CPUTIME_ID``) in a run that nothing disturbs. How a
thread's time divides comes from a second run under :mod:`cProfile`, which makes small functions look dearer than they
are; its shares are applied to the first run's time. Waiting costs no processor time, so it appears nowhere.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any, cast

from benchmarks.fresh import ROOT, in_fresh_process
from benchmarks.hub_under_test import HubUnderTest, chain, open_hub_under_test
from benchmarks.tables import figure, table
from benchmarks.workloads import checked, triangle

__all__ = ["COMMAND", "HELP", "measure", "run"]

COMMAND = "profile"
HELP = "where a step's microseconds go: processor time by thread, layer and module"

_HUB, _WRITER = "the hub's loop", "the writer of the database"
_STEPS = 5
_AT_ONCE = 200
_MODULES_SHOWN = 20
_MANY, _ONE = "many orchestrations at once", "one after the other in one orchestration"

Function = tuple[str, int, str]
Micros = dict[str, float]
"""Microseconds per step, by kind of thread."""


def measure(load: str, small: bool, profiled: bool) -> dict[str, Any]:
    """Run a load on a new hub; return its steps, the processor seconds of each kind of thread, and, if profiled, the
    seconds of each module by thread."""
    profiles: dict[str, cProfile.Profile] = {}
    if profiled:

        def begin(_frame: FrameType, _event: str, _argument: object) -> None:
            # The first event of a new thread: from here on the profiler gets them.
            kind = _kind(threading.current_thread())
            if kind in (_HUB, _WRITER):
                profiles[kind] = cProfile.Profile(time.thread_time)
                profiles[kind].enable()
            else:
                sys.setprofile(None)

        threading.setprofile(begin)
    with open_hub_under_test() as opened:
        threading.setprofile(None)
        checked(asyncio.run(opened.chains(20, 2)), [1] * 20)
        before, begun = _thread_seconds(), time.perf_counter()
        steps = _run_load(opened, load, small)
        seconds, after = time.perf_counter() - begun, _thread_seconds()
    return {
        "steps": steps,
        "seconds": seconds,
        "threads": {kind: after[kind] - before[kind] for kind in after},
        "modules": {kind: _seconds_by_module(profile) for kind, profile in profiles.items()},
    }


def _run_load(opened: HubUnderTest, load: str, small: bool) -> int:
    if load == _ONE:
        steps = 20 if small else 2_000
        checked(opened.run(chain, steps), triangle(steps))
        return steps
    rounds = 1 if small else 10
    for _ in range(rounds):
        checked(asyncio.run(opened.chains(_AT_ONCE, _STEPS)), [triangle(_STEPS)] * _AT_ONCE)
    return rounds * _AT_ONCE * _STEPS


def _kind(thread: threading.Thread) -> str:
    if thread is threading.main_thread():
        return "the program and its client"
    if thread.name.startswith("durabletask-azure "):
        return _HUB
    if "writer" in thread.name:
        return _WRITER
    return "activities"


def _thread_seconds() -> dict[str, float]:
    """Return the processor seconds so far, by kind of thread."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for thread in threading.enumerate():
        if thread.ident is not None:
            clock = time.pthread_getcpuclockid(thread.ident)
            seconds[_kind(thread)] += time.clock_gettime(clock)
    return seconds


def _seconds_by_module(profile: cProfile.Profile) -> dict[str, float]:
    """Return the profiled seconds by module; what C functions without a place of their own take counts for callers."""
    rows = cast(
        dict[Function, tuple[int, int, float, float, dict[Function, tuple[int, int, float, float]]]],
        vars(pstats.Stats(profile))["stats"],
    )
    seconds: defaultdict[str, float] = defaultdict(float)
    for function, (_calls, _primitive, own, _total, callers) in rows.items():
        module = _module(function)
        if module:
            seconds[module] += own
            continue
        for caller, (_of_it, _by_it, spent, _below) in callers.items():
            seconds[_module(caller) or "Python"] += spent
    return dict(seconds)


_C_MODULES = {
    "msgspec": "msgspec",
    "sqlite3": "sqlite3",
    "_asyncio": "asyncio",
    "TaskStepMethWrapper": "asyncio",
    "epoll": "asyncio",
    "_socket": "asyncio",
    "run_until_complete": "asyncio",
}


def _module(function: Function) -> str:
    """Return where a function belongs, or nothing for a C function that is part of whatever calls it."""
    file, _line, name = function
    if file == "~":
        return next((module for word, module in _C_MODULES.items() if word in name), "")
    path = Path(file)
    for own in ("durabletask_azure", "benchmarks"):
        if path.is_relative_to(ROOT / own):
            return path.relative_to(ROOT).as_posix()
    for known in ("asyncio", "selectors", "concurrent", "threading"):
        if known in (path.stem, path.parent.name):
            return "asyncio" if known in ("asyncio", "selectors") else "threading"
    return "Python"


def _layer(module: str) -> str:
    parts = module.split("/")
    if parts[0] != "durabletask_azure":
        return module
    if len(parts) == 2:
        return "client, worker, hub"
    return f"{parts[1]}/{parts[2]}" if parts[1] == "adapters" else parts[1]


def run(*, small: bool) -> None:
    """Measure both loads, each in processes of their own, and print their tables."""
    for load in (_MANY, _ONE):
        plain = in_fresh_process("profile", load=load, small=small, profiled=False)
        steps, threads = plain["steps"], plain["threads"]
        all_cpu = sum(threads.values())
        print(
            f"{steps:,} steps, {load}: {figure(plain['seconds'] * 1e6 / steps)} µs of wall time a step,"
            f" {figure(all_cpu * 1e6 / steps)} µs of processor time\n"
        )
        rows = [
            (kind, figure(seconds * 1e6 / steps), f"{seconds / all_cpu:.0%}")
            for kind, seconds in sorted(threads.items(), key=lambda pair: -pair[1])
        ]
        print(table(("thread", "µs per step", "share"), rows) + "\n")
        if sys.version_info >= (3, 12):
            print(
                "from Python 3.12 on cProfile cannot tell threads apart; run this with 3.11 for the layers\n"
            )
            continue
        profiled = in_fresh_process("profile", load=load, small=small, profiled=True)
        by_module: dict[str, Micros] = defaultdict(lambda: defaultdict(float))
        for kind, modules in profiled["modules"].items():
            scale = threads[kind] * 1e6 / steps / sum(modules.values())
            for module, seconds in modules.items():
                by_module[module][kind] += seconds * scale
        _print_layers(by_module)


def _print_layers(by_module: dict[str, Micros]) -> None:
    by_layer: dict[str, Micros] = defaultdict(lambda: defaultdict(float))
    for module, micros in by_module.items():
        for kind, value in micros.items():
            by_layer[_layer(module)][kind] += value
    print(table(("layer: µs per step", _HUB, _WRITER), _rows(by_layer, len(by_layer))) + "\n")
    print(table(("module: µs per step", _HUB, _WRITER), _rows(by_module, _MODULES_SHOWN)) + "\n")


def _rows(found: dict[str, Micros], count: int) -> list[tuple[str, ...]]:
    largest = sorted(found.items(), key=lambda pair: -sum(pair[1].values()))[:count]
    return [
        (name, figure(micros.get(_HUB, 0.0)), figure(micros.get(_WRITER, 0.0))) for name, micros in largest
    ]

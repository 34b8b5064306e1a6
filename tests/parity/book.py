"""The programs, by name: each is a function that registers what it needs with a side and returns how to run it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from tests.parity.sides import Side

Run = Callable[[], Any]
Program = Callable[[Side], Run]

PROGRAMS: dict[str, Program] = {}
DIFFERING: dict[str, Program] = {}
MODULES = (
    "activities",
    "children",
    "events",
    "clients",
    "steering",
    "values",
    "workers",
    "taking_up",
    "differing",
)


def program(write: Program) -> Program:
    """Put a program into the book: it does the same on both sides."""
    assert write.__name__ not in PROGRAMS
    PROGRAMS[write.__name__] = write
    return write


def differing(write: Program) -> Program:
    """Put a program into the book that does not do the same on both sides."""
    assert write.__name__ not in PROGRAMS | DIFFERING
    DIFFERING[write.__name__] = write
    return write


def load_programs(side: Side) -> dict[str, Run]:
    """Register every program with a side; return how each is run."""
    runs: dict[str, Run] = {}
    for name, write in (PROGRAMS | DIFFERING).items():
        side.program = name
        run = write(side)

        def run_as(name: str = name, run: Run = run) -> Any:
            side.program = name
            return run()

        runs[name] = run_as
    return runs


for module in MODULES:
    importlib.import_module(f"tests.parity.programs.{module}")

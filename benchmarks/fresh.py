"""Measurements of our own hub, each in a process of its own that has run nothing before.

``python -m benchmarks.fresh MODULE '{"argument": value}'`` calls ``measure`` of that module of ``benchmarks`` and
prints what it returns as one line of JSON; :func:`in_fresh_process` does so and returns it.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "in_fresh_process", "last_line"]

ROOT = Path(__file__).resolve().parents[1]


def in_fresh_process(module: str, **arguments: Any) -> Any:
    """Return what ``benchmarks.<module>.measure(**arguments)`` returns in a new process; both are JSON values.

    Raises:
        RuntimeError: the process failed; what it had to say went to the standard error.
    """
    return last_line([sys.executable, "-m", "benchmarks.fresh", module, json.dumps(arguments)])


def last_line(command: list[str], environment: dict[str, str] | None = None) -> Any:
    """Run a command in the project's folder and return the JSON value of the last line it prints.

    Raises:
        RuntimeError: the command failed; what it had to say went to the standard error.
    """
    done = subprocess.run(  # noqa: S603 - our own modules
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0 or not done.stdout.strip():
        raise RuntimeError(f"{' '.join(command)} failed with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def main(module: str, arguments: str) -> None:
    """Take the measurement of a module in this process, and print it."""
    measured = importlib.import_module(f"benchmarks.{module}").measure(**json.loads(arguments))
    print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

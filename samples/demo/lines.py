"""What activities leave behind outside the hub: one line per run, so that anyone can count how often each one ran.

A line is appended by one write to a file opened for appending, so lines of several processes never mix, and a process
that is killed leaves either the whole line or none.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Lines", "Run", "repeated"]


@dataclass(frozen=True)
class Run:
    """One run of one activity call. ``call`` is the same for every run of that call; ``step`` says which one it is."""

    instance_id: str
    activity: str
    step: str
    call: str
    pid: int


class Lines:
    """The file of lines."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, instance_id: str, activity: str, step: object, call: str) -> None:
        """Note that this process begins to run an activity."""
        line = "\t".join((instance_id, activity, str(step), call, str(os.getpid()))) + "\n"
        file = os.open(self._path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def runs(self, *instance_ids: str) -> list[Run]:
        """Return the runs noted so far for these instances, oldest first; without instances all of them."""
        if not self._path.exists():
            return []
        runs: list[Run] = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            instance_id, activity, step, call, pid = line.split("\t")
            if not instance_ids or instance_id in instance_ids:
                runs.append(Run(instance_id, activity, step, call, int(pid)))
        return runs


def repeated(runs: list[Run]) -> list[str]:
    """Return the steps whose call ran more than once."""
    counts = Counter(run.call for run in runs)
    steps = {run.call: run.step for run in runs}
    return [steps[call] for call, count in counts.items() if count > 1]

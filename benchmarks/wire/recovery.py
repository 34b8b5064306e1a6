"""How long work stands still after a worker was killed, and after one was stopped.

Two workers share the hub; orchestrations of many short steps run on both. One worker is killed (SIGKILL) or stopped
(SIGTERM). What is measured is, of every orchestration, the longest time between two of its steps from then on: it
includes the take-over of its partition, and the tasks the lost worker held, which come again when their locks end.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec

from benchmarks.wire.hub import azure_settings
from benchmarks.wire.servers import Servers, running_servers
from benchmarks.wire.worker import READY, WorkerOptions, long_chain
from durabletask_azure import Settings, TaskHub, TaskHubClient

__all__ = ["measure"]

_STEPS = 100_000
_POLL_S = 0.05
_STEPS_AFTER = 5
"""Steps of each orchestration awaited after the event: the first may have been under way already."""


@dataclass(frozen=True, slots=True)
class _Step:
    pid: int
    instance_id: str
    at: float


def measure(how: str, lock_s: float, orchestrations: int) -> list[float]:
    """Kill (``how`` is SIGKILL) or stop (SIGTERM) one of two workers; return for how many seconds each orchestration
    stood still, the longest first.

    Raises:
        TimeoutError: work did not get under way, or some of it not again.
    """
    with running_servers() as servers, tempfile.TemporaryDirectory(prefix="benchmark-wire-") as folder:
        file = Path(folder, "steps")
        file.touch()
        options = WorkerOptions(servers=servers, lock_s=lock_s, steps_file=str(file))
        first = _start(options)
        workers = [first]
        try:
            ids = _begin(servers, lock_s, orchestrations)
            _wait(lambda: {step.instance_id for step in _steps(file)} >= ids, 60.0, "no work got under way")
            second = _start(options)
            workers.append(second)
            # Partitions and tasks are shared out, and what is under way is on both.
            _wait(
                lambda: (
                    len({s.instance_id for s in _steps(file) if s.pid == second.pid}) > orchestrations // 4
                ),
                120.0,
                "the second worker got no work",
            )
            time.sleep(3.0)
            begun = time.time()
            first.send_signal(getattr(signal, how))

            def went_on() -> bool:
                late = Counter(s.instance_id for s in _steps(file) if s.pid == second.pid and s.at > begun)
                return all(late[instance_id] >= _STEPS_AFTER for instance_id in ids)

            _wait(went_on, lock_s * 4 + 60.0, "not all work went on")
            return _standstills(_steps(file), begun)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
                if worker.stdout is not None:
                    worker.stdout.close()


def _start(options: WorkerOptions) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.wire.worker", msgspec.json.encode(options).decode()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own module
    if process.stdout is None or process.stdout.readline().strip() != READY:
        process.kill()
        raise RuntimeError("a worker did not start")
    return process


def _begin(servers: Servers, lock_s: float, orchestrations: int) -> set[str]:
    settings = azure_settings(servers, lock_duration_s=lock_s)
    with TaskHub.azure(settings, settings=Settings(lock_s=lock_s)) as hub:
        client = TaskHubClient(hub)
        return {client.schedule_new_orchestration(long_chain, input=_STEPS) for _ in range(orchestrations)}


def _steps(file: Path) -> list[_Step]:
    lines = file.read_text(encoding="utf-8").splitlines()
    parts = [line.split(" ") for line in lines if line.count(" ") == 3]
    return [_Step(int(pid), instance_id, float(at)) for pid, instance_id, _, at in parts]


def _standstills(steps: list[_Step], begun: float) -> list[float]:
    """Return the longest pause of each orchestration that had not ended when it happened, the longest first."""
    by_instance: dict[str, list[float]] = {}
    for step in steps:
        by_instance.setdefault(step.instance_id, []).append(step.at)
    pauses = [
        max(after - max(before, begun) for before, after in pairwise(sorted(times)) if after > begun)
        for times in by_instance.values()
    ]
    return sorted(pauses, reverse=True)


def _wait(done: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} within {seconds:.0f} s")
        time.sleep(_POLL_S)

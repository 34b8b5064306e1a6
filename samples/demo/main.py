"""The demo: some orchestrations on a fresh task hub, two worker processes, and one of them is killed.

Run it with ``python -m samples.demo.main``. The exit code is 0 only if every result was checked and right.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

from durabletask_azure import DurableTaskError, TaskHub, TaskHubClient
from samples.demo.hubs import HUBS, DemoHub
from samples.demo.jobs import Jobs
from samples.demo.lines import Lines
from samples.demo.processes import DemoError, WorkerProcess
from samples.demo.report import Finding, table

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and return its exit code: 0 all right, 1 something wrong, 2 wrong usage, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m samples.demo.main",
        description="Runs orchestrations on a fresh task hub in two worker processes, kills one of them in the middle"
        " of a chain, and checks every result.",
    )
    parser.add_argument(
        "--hub",
        choices=sorted(HUBS),
        default="local",
        help="an SQLite file (local), or Azurite and the Service Bus emulator, started for it (default: %(default)s)",
    )
    parser.add_argument(
        "--dir", type=Path, help="an empty or new folder for the hub's files, kept at the end"
    )
    options = parser.parse_args(arguments)
    folder: Path | None = options.dir
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            parser.error(f"{folder} is not empty: the demo wants a fresh hub")
    chosen = folder if folder is not None else Path(tempfile.mkdtemp(prefix="durabletask-demo-"))
    try:
        with HUBS[options.hub](chosen) as place:
            return _run(chosen, place)
    except KeyboardInterrupt:
        _say("interrupted; the workers are stopped")
        return 130
    except (DemoError, DurableTaskError, OSError, TimeoutError) as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1
    finally:
        if folder is None:
            shutil.rmtree(chosen, ignore_errors=True)
            _say(f"removed {chosen}")
        else:
            _say(f"kept {chosen}: hub file, activity lines and the workers' logs")


def _run(folder: Path, place: DemoHub) -> int:
    begun = time.monotonic()
    lines_file = folder / "activities.txt"
    with contextlib.ExitStack() as ends:
        hub = ends.enter_context(TaskHub.from_env(place.environment))
        hub.open()
        _say(f"hub: {place.what}")
        workers: list[WorkerProcess] = []
        for name in ("A", "B"):
            worker = WorkerProcess(name, folder, environment=place.environment, lines_file=lines_file)
            ends.callback(worker.end)
            workers.append(worker)
        for worker in workers:
            worker.wait_ready()
            worker.start_working()
        _say(f"workers: {' and '.join(f'{worker.name} (process {worker.pid})' for worker in workers)}")
        jobs = Jobs(TaskHubClient(hub), Lines(lines_file), _say)
        jobs.run_chain()
        jobs.run_fan_out()
        jobs.run_approvals()
        jobs.run_order()
        jobs.run_crash(victim=workers[0], heir=workers[1])
        _say("done; the worker drains and ends")
    exit_code = _conclude(jobs.findings, time.monotonic() - begun)
    for line in place.contents():
        _say(f"left: {line}")
    return exit_code


def _conclude(findings: list[Finding], seconds: float) -> int:
    wrong = [f"{finding.job}: {text}" for finding in findings for text in finding.wrong]
    right = sum(not finding.wrong for finding in findings)
    _say(f"\n{table(findings)}\n")
    _say("calls: activity calls made; runs: how often activities ran for them, counted outside the hub")
    for text in wrong:
        _say(f"WRONG  {text}")
    _say(f"{right} of {len(findings)} jobs right, {seconds:.1f} s in all")
    return 1 if wrong else 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())

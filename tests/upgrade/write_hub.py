"""Writes the hub files of this folder, run with the version they are of: see README.md.

``python -m tests.upgrade.write_hub OUT`` writes ``OUT-stopped.tar.gz``, a hub whose worker stopped, and
``OUT-killed.tar.gz``, one whose processes were killed: with a write-ahead log, and tasks nobody gave back.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import durabletask_azure
from durabletask_azure import OrchestrationStatus, Settings, TaskHub, TaskHubClient, TaskHubWorker
from tests.upgrade import programs

STARTED: dict[str, tuple[Any, Any, str]] = {
    "event": (programs.for_an_event, "first", "TaskCompleted"),
    "event-generator": (programs.for_an_event_generator, {"a": [1, None]}, "TaskCompleted"),
    "event-in-queue": (programs.for_an_event, 1, "TaskCompleted"),
    "event-twice": (programs.for_an_event, 2, "TaskCompleted"),
    "fan-out": (programs.fan_out, 30, "TaskCompleted"),
    "far": (programs.for_the_far_future, None, "TimerCreated"),
    "generations": (programs.generations, 0, "ExecutionStarted"),
    "large-waiting": (programs.large_for_an_event, programs.LARGE, "TaskCompleted"),
    "parent": (programs.parent, None, "SubOrchestrationInstanceCreated"),
    "parent-child": (programs.for_an_event, "child", "TaskCompleted"),
    "poisoned": (programs.poisoned, None, "TaskScheduled"),
    "replaced": (programs.for_an_event, "again", "TaskCompleted"),
    "suspended": (programs.for_an_event, "s", "TaskCompleted"),
    "terminated": (programs.for_an_event, "t", "TaskCompleted"),
    "ünïcode/€ id": (programs.for_an_event, "ü", "TaskCompleted"),
}
"""Instances that wait, and the event in their history that says they do."""


def work(path: Path, end: str) -> None:
    """Have a worker bring every instance to where it shall be found."""
    programs.is_writing = True
    hub = TaskHub.local(path, settings=Settings(stop_grace_s=0.5))
    worker = TaskHubWorker(hub)
    for orchestrator in programs.ORCHESTRATORS:
        worker.add_orchestrator(orchestrator)
    for activity in programs.ACTIVITIES:
        worker.add_activity(activity)
    worker.start()
    client = TaskHubClient(hub)
    for name in ("purged", "finished", "replaced"):
        client.schedule_new_orchestration(programs.chain, input=4, instance_id=name)
        client.wait_for_orchestration_completion(name)
    assert client.purge_orchestration("purged").deleted_instance_count == 1
    client.schedule_new_orchestration(programs.large, input=programs.LARGE, instance_id="finished-large")
    client.wait_for_orchestration_completion("finished-large")
    client.schedule_new_orchestration(programs.fails, instance_id="failed")
    client.wait_for_orchestration_completion("failed")
    client.schedule_new_orchestration("newcomer", input=41, instance_id="newcomer")
    for name, (orchestrator, value, _) in STARTED.items():
        if name != "parent-child":
            client.schedule_new_orchestration(orchestrator, input=value, instance_id=name, tags={"n": name})
    for name, (_, _, last) in STARTED.items():
        _until(client, name, last)
    client.terminate_orchestration("terminated", output="enough")
    client.wait_for_orchestration_completion("terminated")
    client.suspend_orchestration("suspended", reason="a pause")
    while _status(client, "suspended") != OrchestrationStatus.SUSPENDED:
        time.sleep(0.01)
    # It may be in any of its generations; the last one waits.
    while not any(
        getattr(event, "input", None) == "12" for event in client.get_orchestration_history("generations")
    ):
        time.sleep(0.01)
    client.raise_orchestration_event("event-twice", "other", data="kept", event_id="e1")
    _until(client, "event-twice", "EventRaised")
    while _count(client, "fan-out", "TaskCompleted") < 10:
        time.sleep(0.01)
    # Last, so that their time has not come when the worker ends.
    soon = datetime.now(UTC) + programs.DUE
    client.schedule_new_orchestration(programs.for_a_timer, instance_id="timer")
    client.schedule_new_orchestration(programs.retrying, instance_id="retrying")
    client.schedule_new_orchestration(
        programs.chain, input=3, instance_id="scheduled", start_at=soon, raise_event=("unused", 1)
    )
    for name in ("timer", "retrying"):
        _until(client, name, "TimerCreated")
        assert _count(client, name, "TimerFired") == 0
    if end == "stop":
        worker.stop()
        hub.close()
        _put_aside(path)
        return
    _put_aside(path)
    os.kill(os.getpid(), signal.SIGKILL)


def knock(path: Path, end: str) -> None:
    """Leave messages nobody handles, later than all that is due: the hub's time goes on even if a clock is behind."""
    hub = TaskHub.local(path)
    client = TaskHubClient(hub)
    client.raise_orchestration_event("event-in-queue", "go", data="from the queue", event_id="q1")
    client.raise_orchestration_event("event-in-queue", "go", data="counts once", event_id="q1")
    client.schedule_new_orchestration(programs.chain, input=5, instance_id="pending")
    if end == "stop":
        hub.close()
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def _until(client: TaskHubClient, name: str, kind: str) -> None:
    """Wait until the history of an instance's current execution has an event of a kind."""
    while _count(client, name, kind) == 0:
        time.sleep(0.01)


def _count(client: TaskHubClient, name: str, kind: str) -> int:
    if _status(client, name) in (None, OrchestrationStatus.PENDING):
        return 0
    return sum(type(event).__name__ == f"{kind}Event" for event in client.get_orchestration_history(name))


def _status(client: TaskHubClient, name: str) -> OrchestrationStatus | None:
    state = client.get_orchestration_state(name)
    return None if state is None else state.runtime_status


def _put_aside(path: Path) -> None:
    """Make the task of ``poisoned`` a dead letter, as ten deliveries would, and add a message that cannot be read."""
    connection = sqlite3.connect(path)
    with connection:
        found = connection.execute(
            "SELECT seq, id, deliveries, enqueued_at, body FROM tasks WHERE instr(body, 'poisoned') > 0"
        ).fetchall()
        assert len(found) == 1, found
        ((seq, task_id, deliveries, enqueued_at, body),) = found
        put = (
            "INSERT INTO dead(partition, id, reason, description, deliveries, enqueued_at, body)"
            " VALUES (?, ?, 'MaxDeliveryCountExceeded', 'delivered too often', ?, ?, ?)"
        )
        connection.execute(put, (None, task_id, deliveries + 9, enqueued_at, body))
        connection.execute("DELETE FROM tasks WHERE seq = ?", (seq,))
        connection.execute(put, (0, "unreadable", 10, enqueued_at, b"\xff not JSON"))
    connection.close()


def pack(folder: Path, out: Path) -> None:
    """Pack a hub file with what belongs to it; shared memory of processes that are gone does not."""
    with tarfile.open(out, "w:gz") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.endswith("-shm"):
                info = archive.gettarinfo(path, path.relative_to(folder).as_posix())
                info.uid = info.gid = 0
                info.uname = info.gname = ""
                with path.open("rb") as file:
                    archive.addfile(info, file)
    print(f"{out.name}: {out.stat().st_size:,} bytes")


def main(out: str) -> None:
    """Write both files, each by processes of its own."""
    print(f"written with {Path(durabletask_azure.__file__).parent}")
    for end in ("stop", "kill"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "hub.db"
            for act in ("work", "knock"):
                command = [sys.executable, "-m", "tests.upgrade.write_hub", act, str(path), end]
                code = subprocess.run(command, check=False).returncode  # noqa: S603
                assert code == (0 if end == "stop" else -signal.SIGKILL), code
                time.sleep(programs.DUE.total_seconds() + 1 if act == "work" else 0)
            pack(Path(folder), Path(f"{out}-{end}{'ped' if end == 'stop' else 'ed'}.tar.gz"))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["work", hub_path, how]:
            work(Path(hub_path), how)
        case ["knock", hub_path, how]:
            knock(Path(hub_path), how)
        case [destination]:
            main(destination)
        case _:
            sys.exit(__doc__)

"""Hub files written by earlier versions open, and every instance in them goes on to its right end."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from durabletask_azure import OrchestrationStatus, TaskHub
from tests.behaviours.stage import Stage
from tests.upgrade import programs

FILES = sorted(path.name for path in Path(__file__).parent.glob("*.tar.gz"))

# What is done to an instance that waits: the event raised to it. It may have to be resumed for it.
RAISED: dict[str, Any] = {
    "event": "e",
    "event-generator": ["g"],
    "event-twice": "t",
    "far": "f",
    "generations": "n",
    "large-waiting": programs.LARGE,
    "parent-child": "c",
    "replaced": "r",
    "suspended": "s",
    "ünïcode/€ id": "€",
}
OUTPUTS: dict[str, Any] = {
    "event": ["first", "e", "last"],
    "event-generator": [{"a": [1, None]}, ["g"]],
    "event-in-queue": [1, "from the queue", "last"],
    "event-twice": [2, "t", "last"],
    "fan-out": 435,
    "far": ["event", "f"],
    "finished": 6,
    "finished-large": programs.LARGE + "!",
    "generations": [12, False, "n"],
    "large-waiting": [True, True],
    "newcomer": 42,
    "parent": ["child", "c", "last"],
    "parent-child": ["child", "c", "last"],
    "pending": 10,
    "poisoned": "failed: ActivityDeliveriesExhausted",
    "replaced": ["again", "r", "last"],
    "retrying": "at last",
    "scheduled": 3,
    "suspended": ["s", "s", "last"],
    "timer": "rang",
    "ünïcode/€ id": ["ü", "€", "last"],
}
ENDED_OTHERWISE = {"failed": OrchestrationStatus.FAILED, "terminated": OrchestrationStatus.TERMINATED}


@contextlib.contextmanager
def opened(file: str, folder: Path) -> Generator[Stage]:
    """Open a copy of a recorded hub with the code of today."""
    with tarfile.open(Path(__file__).parent / file) as archive:
        archive.extractall(folder, filter="data")
    with TaskHub.local(folder / "hub.db") as hub:
        yield Stage(hub)


def test_there_are_recorded_hubs() -> None:
    assert len(FILES) >= 2


@pytest.mark.parametrize("file", FILES)
def test_a_recorded_hub_reads_as_it_was_left(file: str, tmp_path: Path) -> None:
    with opened(file, tmp_path) as stage:
        states = {state.instance_id: state for state in stage.client.get_all_orchestration_states()}
        assert set(states) == {*OUTPUTS, *ENDED_OTHERWISE}
        assert stage.client.get_orchestration_state("purged") is None
        assert stage.state("finished-large").get_output() == programs.LARGE + "!"
        assert states["failed"].failure_details is not None
        assert states["failed"].failure_details.message.endswith("never: x")
        assert stage.state("terminated").get_output() == "enough"
        assert states["suspended"].runtime_status is OrchestrationStatus.SUSPENDED
        assert states["event"].get_custom_status() == {"waiting": True}
        assert stage.events("finished") == [
            "ExecutionStarted",
            *["TaskScheduled", "TaskCompleted"] * 4,
            "ExecutionCompleted",
        ]
        assert len(stage.existing_row("generations").past) == 10
        assert stage.existing_row("event").tags is not None


@pytest.mark.parametrize("file", FILES)
def test_every_instance_of_a_recorded_hub_goes_on_to_its_right_end(file: str, tmp_path: Path) -> None:
    with opened(file, tmp_path) as stage:
        stage.worker(*programs.ORCHESTRATORS, programs.newcomer, activities=programs.ACTIVITIES)
        for name, data in RAISED.items():
            stage.client.raise_orchestration_event(name, "go", data=data)
        stage.client.resume_orchestration("suspended")
        assert {name: stage.completed(name) for name in OUTPUTS} == OUTPUTS
        for name, status in ENDED_OTHERWISE.items():
            assert stage.state(name).runtime_status is status

        # The id of the purged instance can be used again, those of ended ones as well.
        assert stage.result(programs.chain, 2, instance_id="purged") == 1
        assert stage.result(programs.chain, 3, instance_id="finished-large") == 3

        everything = [*OUTPUTS, *ENDED_OTHERWISE, "purged"]
        purged = stage.client.purge_orchestrations_by()
        assert (purged.deleted_instance_count, purged.is_complete) == (len(everything), True)
        assert stage.client.get_all_orchestration_states() == []
        stage.eventually(lambda: not any(stage.blobs(name) for name in everything))

"""Records the histories that are not there yet: ``python -m tests.golden.record``. What is there is never touched.

Each case runs on a real hub. What is kept of an execution: its events, as stored; the spilled values they refer to; and
what the orchestrator decided in each turn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from durabletask_azure import OrchestrationStatus, Settings, TaskHub
from durabletask_azure.core.history import decode_events, replay_refs
from tests.behaviours.stage import Stage
from tests.golden import orchestrators_1 as first
from tests.golden import orchestrators_2 as second
from tests.golden.recordings import FOLDER, Recording, orchestrators, write_hashes

Drive = Callable[[Stage, str], None]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One instance to record: what it runs, and what is done to it."""

    name: str
    orchestrator: Any
    input: Any = None
    drive: Drive | None = None
    options: dict[str, Any] | None = None
    child: str | None = None
    """The recording of a child, whose id is the instance's with ``-child``."""


def raised(*events: tuple[str, Any]) -> Drive:
    """Raise events to a running instance, one after the other."""

    def drive(stage: Stage, instance_id: str) -> None:
        stage.until_status(instance_id, OrchestrationStatus.RUNNING)
        for name, data in events:
            stage.client.raise_orchestration_event(instance_id, name, data=data)

    return drive


def after_status(custom_status: str, name: str, data: Any) -> Drive:
    """Raise an event once the instance has a custom status."""

    def drive(stage: Stage, instance_id: str) -> None:
        stage.until(instance_id, lambda row: row is not None and row.custom_status == custom_status)
        stage.client.raise_orchestration_event(instance_id, name, data=data)

    return drive


def suspend_between(stage: Stage, instance_id: str) -> None:
    """Suspend an instance, raise events meanwhile, and resume it."""
    stage.until_status(instance_id, OrchestrationStatus.RUNNING)
    stage.client.raise_orchestration_event(instance_id, "step", data=1)
    stage.client.suspend_orchestration(instance_id, reason="lunch")
    stage.until_status(instance_id, OrchestrationStatus.SUSPENDED)
    stage.client.raise_orchestration_event(instance_id, "step", data=2)
    stage.client.resume_orchestration(instance_id, reason="back")


def terminate(stage: Stage, instance_id: str) -> None:
    """Terminate a running instance."""
    stage.until_status(instance_id, OrchestrationStatus.RUNNING)
    stage.client.terminate_orchestration(instance_id, output="enough")


CASES = [
    Case(name="chain", orchestrator=first.chain, input=4),
    Case(name="chain_class", orchestrator=first.ChainClass, input=3),
    Case(name="chain_generator", orchestrator=first.chain_generator, input=4),
    Case(name="generator_class", orchestrator=first.GeneratorClass, input=3),
    Case(name="plain", orchestrator=first.plain, input=7),
    Case(name="empty", orchestrator=first.empty),
    Case(name="typed", orchestrator=first.typed, input=first.Order("tea", 2)),
    Case(name="fan_out", orchestrator=first.fan_out, input=8),
    Case(name="fan_out_generator", orchestrator=first.fan_out_generator, input=8),
    Case(name="gathered", orchestrator=first.gathered, input=3),
    Case(name="task_group", orchestrator=first.task_group, drive=raised(("go", "gone"))),
    Case(name="failing_group", orchestrator=first.failing_group),
    Case(name="asyncio_tools", orchestrator=first.asyncio_tools, input=3),
    Case(name="timeouts", orchestrator=first.timeouts),
    Case(name="timers", orchestrator=first.timers),
    Case(name="timers_generator", orchestrator=first.timers_generator),
    Case(
        name="events",
        orchestrator=first.events,
        drive=raised(("more", 1), ("ORDER", {"item": "tea", "count": 1}), ("more", 2), ("More", None)),
    ),
    Case(
        name="events_generator",
        orchestrator=first.events_generator,
        drive=raised(("more", 1), ("more", 2), ("more", 3)),
    ),
    Case(
        name="event_or_timeout",
        orchestrator=first.event_or_timeout,
        drive=after_status('"second"', "early", [1, 2]),
    ),
    Case(name="race", orchestrator=first.race, drive=after_status('{"round":0}', "go1", "won")),
    Case(
        name="race_generator",
        orchestrator=first.race_generator,
        drive=after_status('{"round":0}', "go1", "won"),
    ),
    Case(name="nested_composites", orchestrator=first.nested_composites),
    Case(name="parent", orchestrator=second.parent),
    Case(name="parent_generator", orchestrator=second.parent_generator),
    Case(name="parent_of_waiting", orchestrator=second.parent_of_waiting, child="waiting_child"),
    Case(name="failing", orchestrator=second.failing, input="Kim"),
    Case(name="uncaught", orchestrator=second.uncaught, input="Kim"),
    Case(name="compensating", orchestrator=second.compensating, input="Kim"),
    Case(name="retrying", orchestrator=second.retrying, input="a"),
    Case(name="retrying_generator", orchestrator=second.retrying_generator, input="b"),
    Case(name="retries_side_by_side", orchestrator=second.retries_side_by_side, input="c"),
    Case(name="counter", orchestrator=second.counter, input=0),
    Case(name="counter_generator", orchestrator=second.counter_generator, input=0),
    Case(name="actor", orchestrator=second.actor, input=0, drive=raised(("add", 3), ("add", 3), ("add", 4))),
    Case(name="versioned", orchestrator=second.versioned, input=0, options={"version": "1.0"}),
    Case(
        name="identities",
        orchestrator=second.identities,
        options={"tags": {"team": "blue", "größe": "5"}, "version": "1.2"},
    ),
    Case(
        name="scheduled",
        orchestrator=first.events_generator,
        drive=raised(("more", 2), ("more", 3)),
        options={"raise_event": ("more", "early")},
    ),
    Case(name="replay_branches", orchestrator=second.replay_branches),
    Case(name="spilled", orchestrator=second.spilled, input="i" * 1500, drive=raised(("large", "e" * 1500))),
    Case(name="suspended", orchestrator=second.suspended, drive=suspend_between),
    Case(name="terminated", orchestrator=second.terminated, drive=terminate),
    Case(name="late_values", orchestrator=second.late_values),
]


def main() -> None:
    """Record the cases that have no recording, and write down the hashes of the new files."""
    have = {recording.case for recording in Recording.all()}
    missing = [case for case in CASES if case.name not in have]
    settings = Settings(payload_inline_bytes_max=1000)
    with (
        tempfile.TemporaryDirectory() as folder,
        TaskHub.local(Path(folder) / "golden.db", settings=settings) as hub,
    ):
        stage = Stage(hub)
        stage.worker(
            *(each for each in orchestrators() if each is not second.versioned),
            activities=first.ACTIVITIES,
        )
        worker = stage.workers[0]
        worker.stop()
        for version in ("1.0", "2.0"):
            worker.add_orchestrator(second.versioned, version=version)
        worker.start()
        for case in missing:
            options = dict(case.options or {})
            if case.name == "scheduled":
                options["start_at"] = datetime.now(UTC) + timedelta(milliseconds=200)
            instance_id = stage.client.schedule_new_orchestration(
                case.orchestrator, input=case.input, instance_id=f"golden-{case.name}", **options
            )
            if case.drive is not None:
                case.drive(stage, instance_id)
            print(case.name, stage.end(instance_id).runtime_status.name)
            keep(stage, case.name, instance_id)
            if case.child is not None:
                keep(stage, case.child, f"{instance_id}-child")
    write_hashes()
    print(f"{len(missing)} recorded, {len(have)} were there; all in {FOLDER.name}/")


def keep(stage: Stage, case: str, instance_id: str) -> None:
    """Write the recordings of all executions of an instance."""
    row = stage.existing_row(instance_id)
    histories = [
        stage.segments(instance_id, past.execution_id, past.segments) for past in row.past if past.readable
    ]
    histories.append(stage.segments(instance_id, row.execution_id, row.segments) + row.tail)
    for number, lines in enumerate(histories):
        refs = {ref.name: ref for ref in replay_refs(decode_events(lines))}

        async def read(refs: Any = refs) -> dict[str, str]:
            payloads = stage.hub.ports.payloads
            return {name: (await payloads.get(name, ref.size)).decode() for name, ref in refs.items()}

        Recording.make(case, number, lines, stage.hub.run(read)).write()


if __name__ == "__main__":
    main()

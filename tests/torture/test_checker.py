"""The judge sees what is amiss: rows and lines of a run without faults are deleted, changed and doubled by hand."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from pathlib import Path

import msgspec
import pytest

from durabletask_azure.core.partitioning import partition_of
from tests.torture.checker import Evidence, Verdict, judge
from tests.torture.expectations import Start
from tests.torture.hubs import FileHub
from tests.torture.journal import Journal
from tests.torture.nemesis import Nemesis
from tests.torture.programs import CHILD, KINDS, Run
from tests.torture.run import Cast, Plan, bugs_in, look

PARTITIONS = 4
PLAN = Plan(seconds=0.5, workers=1, clients=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody harmed, with all its rows and lines."""
    folder = tmp_path_factory.mktemp("finished")
    cast = Cast(PLAN, FileHub(folder), folder)
    try:
        cast.start()
        nobody = Nemesis(cast.workers, cast.clients, folder, random.Random(0), 1e9, 0.0, rolls=())
        while not has_everything(Evidence.read(folder)):
            nobody.run(PLAN.seconds)
        deaths: list[str] = []
        assert cast.finish(deaths) == []
        assert deaths + cast.drain() == []
    finally:
        cast.kill()
    return folder


def has_everything(evidence: Evidence) -> bool:
    """Every kind has ended and is there, and one was purged."""
    there = {evidence.starts[instance].kind for instance in set(evidence.observed) - evidence.purging}
    return there.issuperset(KINDS) and bool(evidence.purged)


class Scene:
    """A copy of that run, to be tampered with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hub = FileHub(folder)
        self.evidence = Evidence.read(folder)

    def judge(self) -> Verdict:
        """Judge it as it is now."""
        return judge(Evidence.read(self.folder), asyncio.run(look(self.hub)))

    def sql(self, statement: str, *parameters: object) -> int:
        """Change rows by hand, and return how many."""
        connection = sqlite3.connect(self.folder / "hub.db")
        try:
            with connection:
                return connection.execute(statement, parameters).rowcount
        finally:
            connection.close()

    def one(self, kind: str) -> Start:
        """Return an orchestration of a kind that is still there."""
        return next(
            start
            for start in self.evidence.starts.values()
            if start.kind == kind and start.instance not in self.evidence.purging
        )

    def line(self, instance: str, label: str = "0") -> Run:
        """Return the run of a step."""
        return self.evidence.runs[instance, label][0]

    def write_line(self, run: Run) -> None:
        """Add a line as an activity would."""
        with (self.folder / "runs-by-hand.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(run) + b"\n")


@pytest.fixture
def scene(finished: Path, tmp_path: Path) -> Scene:
    return Scene(Path(shutil.copytree(finished, tmp_path / "copy")))


def test_a_run_without_faults_is_clean(scene: Scene) -> None:
    verdict = scene.judge()
    assert (verdict.lost, verdict.wrong, verdict.double) == ([], [], [])
    assert verdict.started == verdict.ended == len(scene.evidence.starts)


def test_a_deleted_row_is_a_lost_orchestration(scene: Scene) -> None:
    instance = scene.one("fan").instance
    assert scene.sql("DELETE FROM instances WHERE id = ?", instance) == 1
    verdict = scene.judge()
    assert verdict.lost == [f"{instance}: accepted, and there is no such instance"]
    assert (verdict.wrong, verdict.double) == ([], [])


def test_a_row_that_has_not_ended_is_a_lost_orchestration(scene: Scene) -> None:
    instance = scene.one("fan").instance
    scene.sql(
        "UPDATE instances SET body = replace(body, '\"COMPLETED\"', '\"RUNNING\"'), status = 'RUNNING' WHERE id = ?",
        instance,
    )
    assert scene.judge().lost == [f"{instance}: accepted, and still RUNNING"]


def test_a_doubled_row_is_an_orchestration_nobody_started(scene: Scene) -> None:
    instance = scene.one("retries").instance
    columns = "etag, name, status, created_at, updated_at, completed_at, due_at, has_reason"
    added = scene.sql(
        f"INSERT INTO instances(partition, id, {columns}, body, tail)"  # noqa: S608
        f" SELECT ?, 'twin', {columns}, replace(body, ?, 'twin'), tail FROM instances WHERE id = ?",
        partition_of("twin", PARTITIONS),
        instance,
        instance,
    )
    assert added == 1
    assert scene.judge().double == ["twin: COMPLETED, and nobody started it"]


def test_a_doubled_completion_in_the_history_is_seen(scene: Scene) -> None:
    instance = scene.one("fan").instance
    scene.sql("UPDATE instances SET tail = CAST(tail || tail AS BLOB) WHERE id = ?", instance)
    (complaint,) = scene.judge().double
    assert complaint.startswith(f"{instance}: its history has twice: start, task ")


def test_another_output_than_the_client_saw_is_a_second_end(scene: Scene) -> None:
    start = scene.one("halted")
    scene.sql("UPDATE instances SET body = replace(body, 'halted', 'walked') WHERE id = ?", start.instance)
    verdict = scene.judge()
    assert len(verdict.double) == 1
    assert verdict.double[0].startswith(f"{start.instance}: ended more than once")
    assert len(verdict.wrong) == 1


def test_a_result_that_comes_from_no_run_is_wrong(scene: Scene) -> None:
    instance = scene.one("fan").instance
    token = scene.line(instance).token
    for path in scene.folder.glob("runs-*.jsonl"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if token not in line))
    wrong = scene.judge().wrong
    assert f"{instance}: the result of step {instance} 0 comes from no run of it" in wrong


def test_a_step_called_twice_is_double(scene: Scene) -> None:
    run = scene.line(scene.one("fan").instance)
    scene.write_line(msgspec.structs.replace(run, key=f"{run.key}0", token="another"))
    assert scene.judge().double == [f"{run.instance}: step 0 was called 2 times, not 1"]


def test_a_step_that_runs_again_under_the_same_call_is_allowed(scene: Scene) -> None:
    run = scene.line(scene.one("fan").instance)
    scene.write_line(msgspec.structs.replace(run, token="another"))
    assert scene.judge().is_clean


def test_a_call_that_was_given_two_values_is_double(scene: Scene) -> None:
    run = scene.line(scene.one("fan").instance)
    scene.write_line(msgspec.structs.replace(run, value=run.value + 1, token="another"))
    verdict = scene.judge()
    assert verdict.double == [f"{run.instance}: one call of step 0 was given two values"]
    assert verdict.wrong == [f"{run.instance}: step 0 was given a wrong value"]


def test_a_step_nobody_asked_for_is_double(scene: Scene) -> None:
    run = scene.line(scene.one("answerer").instance)
    scene.write_line(msgspec.structs.replace(run, label="1", token="another"))
    scene.write_line(msgspec.structs.replace(run, instance="nobody", token="a third"))
    assert scene.judge().double == [
        f"{run.instance}: step 1 ran, and nobody asked for it",
        "nobody: step 0 ran, and nobody asked for it",
    ]


def test_a_line_that_a_kill_cut_off_is_not_there(scene: Scene) -> None:
    paths = [*scene.folder.glob("runs-*.jsonl"), *scene.folder.glob("client-*.jsonl")]
    for path in paths:
        with path.open("ab") as file:
            file.write(path.read_bytes()[:20])
    before = [path.read_bytes() for path in paths]
    assert scene.judge().is_clean
    # Whoever only looks changes nothing: a client may be writing.
    assert [path.read_bytes() for path in paths] == before
    journal = next(path for path in paths if path.name.startswith("client-"))
    Journal(journal).close()
    assert journal.read_bytes() in before[paths.index(journal)]
    assert journal.read_bytes().endswith(b"\n")


def test_a_step_before_its_timer_is_wrong(scene: Scene) -> None:
    run = scene.line(scene.one("timers").instance, "1")
    scene.write_line(msgspec.structs.replace(run, at=scene.line(run.instance).at + 0.001))
    assert f"{run.instance}: step 1 came before its timer was due" in scene.judge().wrong


def test_an_orchestration_that_is_there_again_after_its_purge_is_double(scene: Scene) -> None:
    instance = next(iter(scene.evidence.purged))
    other = scene.one("fan").instance
    scene.sql(
        "UPDATE instances SET partition = ?, id = ?, body = replace(body, ?, ?) WHERE id = ?",
        partition_of(instance, PARTITIONS),
        instance,
        other,
        instance,
        other,
    )
    verdict = scene.judge()
    assert f"{instance}: purged, and there again as COMPLETED" in verdict.double


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("status = 'RUNNING', body = replace(body, '\"COMPLETED\"', '\"RUNNING\"')", "a child, and RUNNING"),
        ("status = 'FAILED', body = replace(body, '\"COMPLETED\"', '\"FAILED\"')", "a child, and FAILED"),
    ],
)
def test_a_child_that_did_not_complete_is_lost(scene: Scene, change: str, complaint: str) -> None:
    child = f"{scene.one('family').instance}{CHILD}0"
    assert scene.sql(f"UPDATE instances SET {change} WHERE id = ?", child) == 1  # noqa: S608
    assert scene.judge().lost == [f"{child}: {complaint}"]


def test_a_mistake_that_the_package_tells_of_is_a_bug_of_our_own(tmp_path: Path) -> None:
    ours = "2026-01-01 00:00:00,000 ERROR durabletask_azure.engine.partition: p000: the loop failed"
    theirs = "2026-01-01 00:00:00,000 ERROR azure.servicebus: a link failed"
    for number, lines in enumerate(
        (
            [ours, "Traceback (most recent call last):", "KeyError: 'x'"],
            [theirs, "Traceback (most recent call last):", "KeyError: 'y'"],
            [ours, "durabletask_azure.errors.HubUnavailableError: away"],
            ["AssertionError: never"],
        )
    ):
        (tmp_path / f"log-{number}.txt").write_text("\n".join(lines))
    assert bugs_in(tmp_path) == ["log-0.txt: KeyError: 'x'", "log-3.txt: AssertionError: never"]


def test_what_is_left_in_any_table_or_folder_is_seen(scene: Scene) -> None:
    scene.sql("DELETE FROM instances")
    scene.sql("DELETE FROM segments")
    shutil.rmtree(scene.folder / "hub.db-payloads")
    assert scene.hub.leftovers() == []
    scene.sql("INSERT INTO messages(partition, id, body) VALUES(0, 'late', x'00')")
    (scene.folder / "hub.db-payloads" / "p000").mkdir(parents=True)
    (scene.folder / "hub.db-payloads" / "p000" / "value").touch()
    scene.sql("CREATE TABLE new(id TEXT)")
    scene.sql("INSERT INTO new VALUES('what a later version keeps')")
    assert [line.split(" ")[0] for line in scene.hub.leftovers()] == ["messages:", "new:", "payload:"]

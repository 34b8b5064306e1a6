"""B100 to B102: an id that is taken, rivals for an id, and clients that die half-way through a start."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    ConfigurationError,
    IdReuseAction,
    OrchestrationAlreadyExistsError,
    OrchestrationContext,
    OrchestrationIdReusePolicy,
    OrchestrationStatus,
    TaskHubClient,
    TaskHubWorker,
    history,
)
from durabletask_azure.core.history import ExecutionStartedEvent, Parent
from durabletask_azure.core.instance import pending_row
from tests.behaviours.stage import WAIT_S, Stage

STATUSES = ["PENDING", "RUNNING", "SUSPENDED", "COMPLETED", "FAILED", "TERMINATED"]
ALIVE = STATUSES[:3]


async def old(ctx: OrchestrationContext, fails: bool) -> str:
    word = await ctx.wait_for_external_event("go")
    if fails:
        raise ValueError(word)
    return word


async def new(ctx: OrchestrationContext, number: int) -> int:
    return number


def in_status(stage: Stage, status: str) -> None:
    """Bring an instance called "mine" into a status."""
    stage.worker(new, *([] if status == "PENDING" else [old]))
    client = stage.client
    client.schedule_new_orchestration(old, input=status == "FAILED", instance_id="mine")
    if status == "SUSPENDED":
        client.suspend_orchestration("mine")
    elif status == "TERMINATED":
        client.terminate_orchestration("mine")
    elif status in ("COMPLETED", "FAILED"):
        client.raise_orchestration_event("mine", "go", data="x")
    stage.until_status("mine", OrchestrationStatus[status])
    if status == "PENDING":
        stage.until("mine", lambda row: row is not None and row.reason is not None)


@pytest.mark.parametrize("status", STATUSES)
def test_b100_a_status_that_is_not_named_is_an_error(stage: Stage, status: str) -> None:
    in_status(stage, status)
    before = stage.row("mine")
    others = [OrchestrationStatus[name] for name in STATUSES if name != status]
    policy = OrchestrationIdReusePolicy(others)
    with pytest.raises(OrchestrationAlreadyExistsError, match=f"'mine' already exists and is {status}"):
        stage.client.schedule_new_orchestration(new, instance_id="mine", reuse_id_policy=policy)
    assert stage.row("mine") == before


@pytest.mark.parametrize("status", STATUSES)
def test_b100_an_ignorable_status_starts_nothing(stage: Stage, status: str) -> None:
    in_status(stage, status)
    before = stage.row("mine")
    policy = OrchestrationIdReusePolicy([], [OrchestrationStatus[status]])
    assert stage.client.schedule_new_orchestration(new, instance_id="mine", reuse_id_policy=policy) == "mine"
    assert stage.row("mine") == before


@pytest.mark.parametrize("status", STATUSES)
def test_b100_a_replaceable_status_is_replaced_after_its_end(stage: Stage, status: str) -> None:
    in_status(stage, status)
    before = stage.existing_row("mine").execution_id
    policy = OrchestrationIdReusePolicy([OrchestrationStatus[status]])
    assert stage.result(new, 7, instance_id="mine", reuse_id_policy=policy) == 7
    after = stage.existing_row("mine")
    assert (after.name, after.execution_id != before) == ("new", True)
    assert before in [past.execution_id for past in after.past]
    if status in ALIVE:
        ended = stage.client.get_orchestration_history("mine", execution_id=before)
        kinds = [type(event).__name__ for event in ended]
        assert "ExecutionTerminatedEvent" in kinds


def test_b100_without_a_policy_only_what_has_ended_is_replaced(stage: Stage) -> None:
    in_status(stage, "RUNNING")
    with pytest.raises(OrchestrationAlreadyExistsError):
        stage.client.schedule_new_orchestration(new, instance_id="mine")
    stage.client.raise_orchestration_event("mine", "go", data="x")
    assert stage.completed("mine") == "x"
    assert stage.result(new, 3, instance_id="mine") == 3


def test_b100_what_is_replaced_takes_its_children_along(stage: Stage) -> None:
    async def parent(ctx: OrchestrationContext, _: Any) -> str:
        return await ctx.call_sub_orchestrator(old, input=False, instance_id="kid")

    stage.worker(parent, old, new)
    stage.client.schedule_new_orchestration(parent, instance_id="mine")
    stage.until_status("kid", OrchestrationStatus.RUNNING)
    policy = OrchestrationIdReusePolicy([OrchestrationStatus.RUNNING])
    assert stage.result(new, 1, instance_id="mine", reuse_id_policy=policy) == 1
    assert stage.end("kid").runtime_status is OrchestrationStatus.TERMINATED


def test_b100_a_replacement_keeps_its_event_and_its_time(stage: Stage) -> None:
    in_status(stage, "RUNNING")
    start_at = datetime.now(UTC) + timedelta(seconds=1.5)
    policy = OrchestrationIdReusePolicy([OrchestrationStatus.RUNNING])
    stage.client.schedule_new_orchestration(
        old,
        input=False,
        instance_id="mine",
        start_at=start_at,
        raise_event=("go", "second"),
        reuse_id_policy=policy,
    )
    assert stage.completed("mine") == "second"
    assert datetime.now(UTC) >= start_at


def test_b100_a_policy_says_what_it_does_and_refuses_nonsense() -> None:
    status = OrchestrationStatus
    policy = OrchestrationIdReusePolicy([status.FAILED], [status.RUNNING, status.PENDING])
    assert {name: policy.action_for(status[name]).name for name in STATUSES} == {
        **dict.fromkeys(STATUSES, "ERROR"),
        "FAILED": "REPLACE",
        "RUNNING": "IGNORE",
        "PENDING": "IGNORE",
    }
    assert OrchestrationIdReusePolicy().action_for(status.COMPLETED) is IdReuseAction.REPLACE
    assert OrchestrationIdReusePolicy().action_for(status.RUNNING) is IdReuseAction.ERROR
    with pytest.raises(ConfigurationError, match="but both have FAILED"):
        OrchestrationIdReusePolicy([status.FAILED], [status.FAILED])
    with pytest.raises(ConfigurationError, match="no instance stays CONTINUED_AS_NEW"):
        OrchestrationIdReusePolicy([status.CONTINUED_AS_NEW])
    with pytest.raises(ConfigurationError, match="ignorable_status must be a list of OrchestrationStatus"):
        OrchestrationIdReusePolicy([], ["FAILED"])  # pyright: ignore[reportArgumentType]


def test_b100_a_policy_of_another_kind_is_refused(stage: Stage) -> None:
    with pytest.raises(ConfigurationError, match="must be an OrchestrationIdReusePolicy, not str"):
        stage.client.schedule_new_orchestration(new, reuse_id_policy="replace")  # pyright: ignore[reportArgumentType]
    assert stage.client.get_all_orchestration_states() == []


@pytest.mark.parametrize("taken", [False, True], ids=["absent before", "ended before"])
def test_b101_of_concurrent_starts_of_one_id_exactly_one_wins(stage: Stage, taken: bool) -> None:
    executed: Counter[int] = Counter()

    def count(ctx: ActivityContext, number: int) -> int:
        executed[number] += 1
        return number

    async def flow(ctx: OrchestrationContext, number: int) -> int:
        await ctx.wait_for_external_event("go")
        return await ctx.call_activity(count, input=number)

    stage.worker(flow, new, activities=[count])
    if taken:
        stage.result(new, 0, instance_id="contested")
    outcomes: dict[int, str] = {}
    barrier = threading.Barrier(6, timeout=WAIT_S)

    def start(number: int) -> None:
        client = TaskHubClient(stage.hub)
        barrier.wait()
        try:
            outcomes[number] = client.schedule_new_orchestration(flow, input=number, instance_id="contested")
        except OrchestrationAlreadyExistsError:
            outcomes[number] = "refused"

    threads = [threading.Thread(target=start, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    winners = [number for number, outcome in outcomes.items() if outcome == "contested"]
    assert len(outcomes) == 6
    assert len(winners) == 1
    stage.client.raise_orchestration_event("contested", "go")
    assert stage.completed("contested") == winners[0]
    assert executed == {winners[0]: 1}


@pytest.mark.parametrize("is_due", [True, False], ids=["due", "due later"])
@pytest.mark.parametrize("worker_is", ["there", "not there yet"])
def test_b102_a_client_that_dies_before_its_message_has_started_the_instance(
    open_stage: Callable[..., Stage], is_due: bool, worker_is: str
) -> None:
    stage = open_stage(sweep_s=0.1)
    ran: list[str] = []

    def note(ctx: ActivityContext, word: str) -> str:
        ran.append(word)
        return word

    async def flow(ctx: OrchestrationContext, word: str) -> list[str | None]:
        return [await ctx.call_activity(note, input=word), ctx.parent_instance_id]

    if worker_is == "there":
        stage.worker(flow, activities=[note])
    created = datetime.now(UTC)
    start_at = None if is_due else created + timedelta(seconds=0.5)
    started = ExecutionStartedEvent(
        timestamp=created,
        name="flow",
        instance_id="i",
        execution_id="x",
        input='"hello"',
        parent=Parent("p", "px", 3, "boss"),
        scheduled_start=start_at,
    )
    row = pending_row(started, created_at=created)
    # The record is all there is: no message follows it.
    stage.hub.run(lambda: stage.hub.ports.store.insert_instance(stage.partition("i"), row))
    if worker_is != "there":
        assert stage.state("i").runtime_status is OrchestrationStatus.PENDING
        worker = TaskHubWorker(stage.hub)
        worker.add_orchestrator(flow)
        worker.add_activity(note)
        worker.start()
        stage.workers.append(worker)
    assert stage.completed("i") == ["hello", "p"]
    assert start_at is None or datetime.now(UTC) >= start_at
    stage.restart()
    assert ran == ["hello"]
    events = stage.client.get_orchestration_history("i")
    begun = [event for event in events if isinstance(event, history.ExecutionStartedEvent)]
    assert len(begun) == 1
    assert begun[0].scheduled_start_timestamp == start_at
    assert begun[0].parent_instance is not None
    assert (begun[0].parent_instance.name, begun[0].parent_instance.task_scheduled_id) == ("boss", 3)
    assert stage.existing_row("i").created_at == created

"""B90 to B106: terminate, suspend, resume, custom status, history; and purging and listing as far as they go now."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    OrchestrationAlreadyExistsError,
    OrchestrationContext,
    OrchestrationNotFoundError,
    OrchestrationQuery,
    OrchestrationState,
    OrchestrationStatus,
    TaskHubWorker,
    history,
)
from tests.behaviours.stage import WAIT_S, Stage


async def waits(ctx: OrchestrationContext, _: Any) -> str:
    return await ctx.wait_for_external_event("go")


async def quick(ctx: OrchestrationContext, number: int) -> int:
    return number


def started(stage: Stage, orchestrator: Any, **options: Any) -> str:
    """Start an orchestration and wait until it runs."""
    instance_id = stage.client.schedule_new_orchestration(orchestrator, **options)
    stage.client.wait_for_orchestration_start(instance_id, timeout=WAIT_S)
    return instance_id


def test_b90_terminate_running(stage: Stage) -> None:
    gate, entered = threading.Event(), threading.Event()
    finished: list[str] = []

    def slow(ctx: ActivityContext, _: Any) -> str:
        entered.set()
        assert gate.wait(WAIT_S)
        finished.append("slow")
        return "too late"

    def after(ctx: ActivityContext, _: Any) -> None:
        finished.append("after")

    async def flow(ctx: OrchestrationContext, _: Any) -> None:
        await ctx.call_activity(slow)
        await ctx.call_activity(after)

    worker = stage.worker(flow, activities=[slow, after])
    instance_id = started(stage, flow)
    assert entered.wait(WAIT_S)
    stage.client.terminate_orchestration(instance_id, output={"why": "test"})
    state = stage.end(instance_id)
    assert state.runtime_status is OrchestrationStatus.TERMINATED
    assert state.get_output() == {"why": "test"}
    ended_at = stage.existing_row(instance_id).commit
    gate.set()
    worker.stop()
    # The activity's late result changes nothing, and nothing runs after it.
    assert finished == ["slow"]
    assert stage.existing_row(instance_id).commit == ended_at
    assert stage.events(instance_id) == [
        "ExecutionStarted",
        "TaskScheduled",
        "ExecutionTerminated",
        "ExecutionCompleted",
    ]


def test_b90_terminating_what_has_ended_changes_nothing(stage: Stage) -> None:
    stage.worker(quick, waits)
    assert stage.result(quick, 1, instance_id="done") == 1
    stage.client.terminate_orchestration("done", output="late")
    stage.client.terminate_orchestration("done", output="later")
    other = started(stage, waits, raise_event=("go", "x"))
    stage.completed(other)
    assert stage.state("done").get_output() == 1
    assert stage.state("done").runtime_status is OrchestrationStatus.COMPLETED


@pytest.mark.parametrize("why", ["scheduled for later", "not registered"])
def test_b91_terminate_pending(stage: Stage, why: str) -> None:
    stage.worker(waits)
    name = "waits" if why == "scheduled for later" else "unknown"
    start_at = datetime.now(UTC) + timedelta(days=1) if name == "waits" else None
    instance_id = stage.client.schedule_new_orchestration(name, start_at=start_at)
    assert stage.state(instance_id).runtime_status is OrchestrationStatus.PENDING
    stage.client.terminate_orchestration(instance_id, output="called off")
    state = stage.end(instance_id)
    assert state.runtime_status is OrchestrationStatus.TERMINATED
    assert state.get_output() == "called off"
    assert stage.existing_row(instance_id).due_at is None


def test_b92_terminate_suspended(stage: Stage) -> None:
    stage.worker(waits)
    instance_id = started(stage, waits)
    stage.client.suspend_orchestration(instance_id)
    stage.until_status(instance_id, OrchestrationStatus.SUSPENDED)
    stage.client.terminate_orchestration(instance_id, output="enough")
    state = stage.end(instance_id)
    assert state.runtime_status is OrchestrationStatus.TERMINATED
    assert state.get_output() == "enough"


@pytest.mark.parametrize("recursive", [True, False], ids=["recursive", "alone"])
def test_b93_terminate_recursively_is_seen_on_child_and_grandchild(stage: Stage, recursive: bool) -> None:
    async def child(ctx: OrchestrationContext, _: Any) -> str:
        return await ctx.call_sub_orchestrator(waits, instance_id="grandchild")

    async def parent(ctx: OrchestrationContext, _: Any) -> str:
        return await ctx.call_sub_orchestrator(child, instance_id="child")

    stage.worker(parent, child, waits)
    instance_id = started(stage, parent, instance_id="parent")
    stage.until_status("grandchild", OrchestrationStatus.RUNNING)
    stage.client.terminate_orchestration(instance_id, output="all of it", recursive=recursive)
    assert stage.end("parent").runtime_status is OrchestrationStatus.TERMINATED
    if recursive:
        assert stage.end("child").runtime_status is OrchestrationStatus.TERMINATED
        assert stage.end("grandchild").runtime_status is OrchestrationStatus.TERMINATED
        assert "ExecutionTerminated" in stage.events("grandchild")
    else:
        stage.client.raise_orchestration_event("grandchild", "go", data="on my own")
        assert stage.completed("grandchild") == "on my own"
        assert stage.completed("child") == "on my own"


def test_b94_suspend_buffers_and_resume_drains(stage: Stage) -> None:
    gate = threading.Event()
    ran: list[str] = []

    def work(ctx: ActivityContext, name: str) -> str:
        ran.append(name)
        assert gate.wait(WAIT_S)
        return name

    async def flow(ctx: OrchestrationContext, _: Any) -> list[Any]:
        first = await ctx.call_activity(work, input="first")
        words = [await ctx.wait_for_external_event("word") for _ in range(2)]
        return [first, *words, await ctx.call_activity(work, input="second")]

    stage.worker(flow, activities=[work])
    instance_id = started(stage, flow)
    stage.client.suspend_orchestration(instance_id, reason="maintenance")
    stage.until_status(instance_id, OrchestrationStatus.SUSPENDED)
    gate.set()
    stage.client.raise_orchestration_event(instance_id, "word", data="a")
    stage.client.raise_orchestration_event(instance_id, "word", data="b")
    stage.eventually(lambda: stage.events(instance_id).count("EventRaised") == 2)
    stage.eventually(lambda: "TaskCompleted" in stage.events(instance_id))
    assert stage.state(instance_id).runtime_status is OrchestrationStatus.SUSPENDED
    assert ran == ["first"]
    stage.restart()
    assert stage.state(instance_id).runtime_status is OrchestrationStatus.SUSPENDED
    stage.client.resume_orchestration(instance_id, reason="go on")
    assert stage.completed(instance_id) == ["first", "a", "b", "second"]
    assert ran == ["first", "second"]
    kinds = stage.events(instance_id)
    assert kinds[:3] == ["ExecutionStarted", "TaskScheduled", "ExecutionSuspended"]
    assert sorted(kinds[3:6]) == ["EventRaised", "EventRaised", "TaskCompleted"]
    assert kinds[6] == "ExecutionResumed"
    orders = [
        event.input
        for event in stage.client.get_orchestration_history(instance_id)
        if isinstance(event, history.ExecutionSuspendedEvent | history.ExecutionResumedEvent)
    ]
    assert orders == ["maintenance", "go on"]


def test_b95_waiting_for_the_end_outlasts_suspension(stage: Stage) -> None:
    stage.worker(waits)
    instance_id = started(stage, waits)
    stage.client.suspend_orchestration(instance_id)
    stage.until_status(instance_id, OrchestrationStatus.SUSPENDED)
    with pytest.raises(TimeoutError, match="Timed-out waiting for the orchestration to complete"):
        stage.client.wait_for_orchestration_completion(instance_id, timeout=0.2)
    ends: list[OrchestrationState] = []
    waiting = threading.Thread(target=lambda: ends.append(stage.end(instance_id)))
    waiting.start()
    stage.client.raise_orchestration_event(instance_id, "go", data="done")
    stage.client.resume_orchestration(instance_id)
    waiting.join(WAIT_S)
    assert [end.runtime_status for end in ends] == [OrchestrationStatus.COMPLETED]


def test_b96_custom_status_is_set_cleared_and_kept(stage: Stage) -> None:
    async def flow(ctx: OrchestrationContext, _: Any) -> str:
        ctx.set_custom_status({"step": 1})
        await ctx.wait_for_external_event("go")
        ctx.set_custom_status(None)
        await ctx.wait_for_external_event("go")
        ctx.set_custom_status("last")
        await ctx.wait_for_external_event("go")
        return "done"

    stage.worker(flow)
    instance_id = started(stage, flow)
    assert stage.state(instance_id).get_custom_status() == {"step": 1}
    stage.restart()
    assert stage.state(instance_id).get_custom_status() == {"step": 1}
    stage.client.raise_orchestration_event(instance_id, "go")
    stage.until(instance_id, lambda row: row is not None and row.custom_status is None)
    stage.client.raise_orchestration_event(instance_id, "go")
    stage.until(instance_id, lambda row: row is not None and row.custom_status == '"last"')
    stage.client.raise_orchestration_event(instance_id, "go")
    stage.completed(instance_id)
    assert stage.state(instance_id).get_custom_status() == "last"


def test_b106_the_history_is_readable_event_by_event(stage: Stage) -> None:
    def add(ctx: ActivityContext, number: int) -> int:
        return number + 1

    async def child(ctx: OrchestrationContext, number: int) -> int:
        return number * 10

    async def flow(ctx: OrchestrationContext, number: int) -> int:
        number = await ctx.call_activity(add, input=number, tags={"kind": "sum"})
        await ctx.create_timer(timedelta(milliseconds=10))
        number = await ctx.call_sub_orchestrator(child, input=number, instance_id="kid")
        ctx.send_event("nobody", "hello", data=number)
        return number

    stage.worker(flow, child, activities=[add])
    assert stage.result(flow, 1, instance_id="flow", tags={"team": "a"}) == 20
    events = stage.client.get_orchestration_history("flow")
    assert [type(event).__name__.removesuffix("Event") for event in events] == [
        *("OrchestratorStarted", "ExecutionStarted", "TaskScheduled", "OrchestratorCompleted"),
        *("OrchestratorStarted", "TaskCompleted", "TimerCreated", "OrchestratorCompleted"),
        *("OrchestratorStarted", "TimerFired", "SubOrchestrationInstanceCreated", "OrchestratorCompleted"),
        *("OrchestratorStarted", "SubOrchestrationInstanceCompleted", "EventSent", "ExecutionCompleted"),
        "OrchestratorCompleted",
    ]
    begun, scheduled, done = events[1], events[2], events[5]
    assert isinstance(begun, history.ExecutionStartedEvent)
    assert (begun.name, begun.input, begun.tags) == ("flow", "1", {"team": "a"})
    assert isinstance(scheduled, history.TaskScheduledEvent)
    assert (scheduled.event_id, scheduled.name, scheduled.input) == (1, "add", "1")
    assert scheduled.tags == {"kind": "sum"}
    assert isinstance(done, history.TaskCompletedEvent)
    assert (done.task_scheduled_id, done.result) == (scheduled.event_id, "2")
    assert all(event.timestamp.tzinfo is not None for event in events)
    assert [event.timestamp for event in events[::4]] == sorted(event.timestamp for event in events[::4])
    kid = stage.client.get_orchestration_history("kid")[1]
    assert isinstance(kid, history.ExecutionStartedEvent)
    assert kid.parent_instance is not None
    assert kid.parent_instance.orchestration_instance is not None
    assert kid.parent_instance.orchestration_instance.instance_id == "flow"
    plain = json.loads(json.dumps([event.to_dict() for event in events]))
    assert plain[2]["name"] == "add"
    with pytest.raises(OrchestrationNotFoundError):
        stage.client.get_orchestration_history("unheard of")


def test_purging_removes_row_history_and_blobs_and_is_idempotent(stage: Stage) -> None:
    stage.worker(quick, waits)
    assert stage.run(quick, "x" * 100_000, instance_id="doomed").get_output() == "x" * 100_000
    assert stage.blobs("doomed")
    result = stage.client.purge_orchestration("doomed")
    assert (result.deleted_instance_count, result.is_complete) == (1, True)
    assert stage.row("doomed") is None
    stage.eventually(lambda: stage.blobs("doomed") == [])
    assert stage.client.purge_orchestration("doomed").deleted_instance_count == 0
    living = started(stage, waits)
    assert stage.client.purge_orchestration(living).deleted_instance_count == 0
    assert stage.state(living).runtime_status is OrchestrationStatus.RUNNING
    # A purged id may be used again.
    assert stage.result(quick, 2, instance_id="doomed") == 2


def test_purging_recursively_takes_ended_children_along(stage: Stage) -> None:
    async def parent(ctx: OrchestrationContext, _: Any) -> int:
        await ctx.call_sub_orchestrator(quick, input=1, instance_id="kid 1")
        return await ctx.call_sub_orchestrator(quick, input=2, instance_id="kid 2")

    stage.worker(parent, quick)
    for expected, recursive in ((1, False), (3, True)):
        stage.result(parent, instance_id="top")
        assert stage.client.purge_orchestration("top", recursive).deleted_instance_count == expected
        assert stage.row("top") is None
        assert (stage.row("kid 1") is None, stage.row("kid 2") is None) == (recursive, recursive)


def test_listing_and_purging_by_filter(stage: Stage) -> None:
    stage.worker(quick, waits)
    for number in range(12):
        stage.result(quick, number, instance_id=f"quick-{number:02}")
    living = started(stage, waits, instance_id="living")
    everything = stage.client.get_all_orchestration_states()
    assert [state.instance_id for state in everything] == [f"quick-{number:02}" for number in range(12)] + [
        living
    ]
    query = OrchestrationQuery(
        runtime_status=[OrchestrationStatus.COMPLETED],
        instance_id_prefix="quick-1",
        fetch_inputs_and_outputs=True,
        max_instance_count=1,
    )
    found = stage.client.get_all_orchestration_states(query)
    assert [(state.instance_id, state.get_output()) for state in found] == [
        ("quick-10", 10),
        ("quick-11", 11),
    ]
    ids: list[str] = []
    token: str | None = None
    while True:
        page = stage.client.list_instance_ids(page_size=5, continuation_token=token)
        assert len(page.items) <= 5
        ids += page.items
        token = page.continuation_token
        if token is None:
            break
    assert sorted(ids) == [f"quick-{number:02}" for number in range(12)]
    middle = stage.state("quick-06").created_at
    assert stage.client.purge_orchestrations_by(created_time_to=middle).deleted_instance_count == 6
    assert stage.client.purge_orchestrations_by().deleted_instance_count == 6
    assert [state.instance_id for state in stage.client.get_all_orchestration_states()] == [living]


def test_the_id_of_a_living_instance_is_refused_and_that_of_an_ended_one_replaced(stage: Stage) -> None:
    stage.worker(waits, quick)
    started(stage, waits, instance_id="mine")
    with pytest.raises(OrchestrationAlreadyExistsError, match="'mine' already exists and is RUNNING"):
        stage.client.schedule_new_orchestration(quick, input=1, instance_id="mine")
    stage.client.raise_orchestration_event("mine", "go", data="first")
    assert stage.completed("mine") == "first"
    before = stage.state("mine").execution_id
    assert stage.result(quick, 5, instance_id="mine") == 5
    after = stage.state("mine")
    assert (after.name, after.execution_id != before) == ("quick", True)


def test_of_two_concurrent_starts_of_one_id_one_wins(stage: Stage) -> None:
    outcomes: list[str] = []
    barrier = threading.Barrier(8, timeout=WAIT_S)

    def start() -> None:
        barrier.wait()
        try:
            outcomes.append(stage.client.schedule_new_orchestration(waits, instance_id="contested"))
        except OrchestrationAlreadyExistsError:
            outcomes.append("refused")

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted(outcomes) == ["contested"] + ["refused"] * 7
    with TaskHubWorker(stage.hub) as worker:
        worker.add_orchestrator(waits)
        worker.start()
        stage.client.raise_orchestration_event("contested", "go", data="once")
        assert stage.completed("contested") == "once"

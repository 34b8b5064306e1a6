"""B105, B126 to B128: purging, dead letters, what a hub counts about itself, and retention."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    ConcurrencyOptions,
    DeadLetterNotFoundError,
    NewOrchestration,
    OrchestrationContext,
    OrchestrationQuery,
    OrchestrationStatus,
    PurgeInstancesResult,
)
from durabletask_azure.ports import DeadLetter
from tests.behaviours.stage import WAIT_S, Stage

COMPLETED = OrchestrationStatus.COMPLETED
FAILED = OrchestrationStatus.FAILED
LATER = datetime(2100, 1, 1, tzinfo=UTC)


async def echo(ctx: OrchestrationContext, value: Any) -> Any:
    return value


async def waits(ctx: OrchestrationContext, _: Any) -> str:
    return await ctx.wait_for_external_event("go")


async def breaks(ctx: OrchestrationContext, _: Any) -> None:
    raise ValueError("broken")


def ids(stage: Stage, **query: Any) -> list[str]:
    return sorted(
        state.instance_id for state in stage.client.iter_orchestration_states(OrchestrationQuery(**query))
    )


# ---------------------------------------------------------------- purging


def test_b105_purging_one_leaves_neither_rows_nor_blobs_and_twice_is_once(
    open_stage: Callable[..., Stage],
) -> None:
    stage = open_stage(history_inline_bytes_max=200, segment_bytes_max=200)

    async def long(ctx: OrchestrationContext, text: str) -> str:
        for _ in range(30):
            await ctx.call_activity(note, input="n" * 100)
        return text

    def note(ctx: ActivityContext, text: str) -> str:
        return text

    stage.worker(long, echo, activities=[note])
    assert stage.result(long, "x" * 100_000, instance_id="long") == "x" * 100_000
    row = stage.existing_row("long")
    assert row.segments > 3
    assert stage.segments("long", row.execution_id, row.segments)
    assert stage.blobs("long")

    assert stage.client.purge_orchestration("long") == PurgeInstancesResult(1, True)
    assert stage.row("long") is None
    stage.eventually(lambda: stage.blobs("long") == [])
    assert stage.client.purge_orchestration("long") == PurgeInstancesResult(0, True)
    assert stage.client.purge_orchestration("never there") == PurgeInstancesResult(0, True)
    # Nothing of the old run is met by the next of that id.
    assert stage.result(echo, 2, instance_id="long") == 2
    assert len(stage.events("long")) == 2


def test_b105_purging_recursively_takes_the_ended_children_and_no_others(stage: Stage) -> None:
    async def parent(ctx: OrchestrationContext, _: Any) -> None:
        await ctx.call_sub_orchestrator(child, instance_id="child")

    async def child(ctx: OrchestrationContext, _: Any) -> None:
        await ctx.call_sub_orchestrator(echo, instance_id="grandchild")

    stage.worker(parent, child, echo)
    for recursive, left in ((False, ["child", "grandchild"]), (True, [])):
        stage.result(parent, instance_id="parent")
        stage.result(echo, instance_id="bystander")
        count = stage.client.purge_orchestration("parent", recursive).deleted_instance_count
        assert count == (3 if recursive else 1)
        assert ids(stage) == ["bystander", *left]
    # By filter: whatever is found twice, as one that fits and as another one's child, counts once.
    stage.result(parent, instance_id="parent")
    purged = stage.client.purge_orchestrations_by(
        query=OrchestrationQuery(names=["parent", "child"]), recursive=True
    )
    assert purged == PurgeInstancesResult(3, True)
    assert ids(stage) == ["bystander"]


def test_b105_purging_by_filter_takes_what_fits_and_has_ended(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(bulk_portion_max=7, page_size_max=5)
    stage.worker(echo, waits, breaks)
    requests = [
        NewOrchestration(
            breaks if number % 10 == 0 else echo,
            "x" * 40_000,
            f"it's {number:02}",
            tags={"n": str(number % 3)},
        )
        for number in range(40)
    ]
    for instance_id in stage.client.schedule_new_orchestrations(requests).started:
        stage.end(instance_id)
    stage.client.schedule_new_orchestration(waits, instance_id="it's alive", tags={"n": "1"})

    purge = stage.client.purge_orchestrations_by
    assert purge(runtime_status=[OrchestrationStatus.RUNNING]) == PurgeInstancesResult(0, True)
    assert purge(query=OrchestrationQuery(instance_id_prefix="its")) == PurgeInstancesResult(0, True)
    assert purge(query=OrchestrationQuery(tags={"n": "1"})) == PurgeInstancesResult(13, True)
    assert purge(
        query=OrchestrationQuery(names=["breaks"], runtime_status=[COMPLETED])
    ) == PurgeInstancesResult(0, True)
    assert purge(query=OrchestrationQuery(runtime_status=[FAILED])) == PurgeInstancesResult(3, True)
    assert purge(created_time_to=stage.state("it's 21").created_at).deleted_instance_count > 0
    assert purge().is_complete
    assert ids(stage) == ["it's alive"]
    for number in range(40):
        stage.eventually(lambda name=f"it's {number:02}": stage.blobs(name) == [])


# ---------------------------------------------------------------- dead letters


def put_aside(stage: Stage, instance_id: str) -> str:
    """Dead-letter the only message that waits for an instance, as its owner does at worst; return its id."""
    queue, partition = stage.hub.ports.orchestrations, stage.partition(instance_id)

    async def work() -> str:
        session = await queue.accept(partition)
        assert session is not None
        (delivery,) = await session.receive(1, WAIT_S)
        await session.dead_letter(delivery, "Poison", "its owner could not handle it")
        await session.close()
        return delivery.messages[0].id

    return stage.hub.run(work)


def test_b126_a_poison_message_fails_its_instance_and_can_be_listed_and_redriven(stage: Stage) -> None:
    worker = stage.worker(waits)
    stage.client.schedule_new_orchestration(waits, instance_id="it's")
    stage.client.wait_for_orchestration_start("it's", timeout=WAIT_S)
    worker.stop()
    stage.client.raise_orchestration_event("it's", "go", data="poison")
    old_id = put_aside(stage, "it's")
    assert stage.client.get_hub_statistics().dead_letters_waiting == 1
    assert stage.client.list_dead_letters() == []

    worker.start()
    state = stage.end("it's")
    assert state.runtime_status is FAILED
    assert state.failure_details is not None
    assert "its owner could not handle it" in state.failure_details.message
    stage.eventually(lambda: len(stage.client.list_dead_letters()) == 1)
    (letter,) = stage.client.list_dead_letters()
    assert (letter.reason, letter.description) == ("Poison", "its owner could not handle it")
    assert (letter.instance_ids, letter.kinds, letter.activity) == (("it's",), ("EventRaisedEvent",), None)
    assert (letter.is_readable, letter.delivery_count) == (True, 1)
    statistics = stage.client.get_hub_statistics()
    assert (statistics.dead_letters_waiting, statistics.dead_letters_kept) == (0, 1)

    # A new run of that id waits for the same event: redriven, the message is an ordinary one under another id.
    worker.stop()
    stage.client.schedule_new_orchestration(waits, instance_id="it's")
    (new_id,) = stage.client.redrive_dead_letter(letter.letter_id)
    worker.start()
    assert stage.completed("it's") == "poison"
    assert new_id not in ("", old_id)
    assert stage.client.list_dead_letters() == []
    with pytest.raises(DeadLetterNotFoundError, match=f"no kept dead letter '{letter.letter_id}'"):
        stage.client.redrive_dead_letter(letter.letter_id)


def test_b126_an_activity_call_that_is_handed_out_too_often_can_be_listed_and_redriven(
    open_stage: Callable[..., Stage],
) -> None:
    # A tenth of the sweep is how often dead letters are looked for.
    stage = open_stage(delivery_count_max=3, activity_prefetch_max=0, sweep_s=20.0)
    runs: list[str] = []
    entered, gate = threading.Event(), threading.Event()

    def block(ctx: ActivityContext, _: Any) -> None:
        entered.set()
        assert gate.wait(WAIT_S)

    def ship(ctx: ActivityContext, item: str) -> None:
        runs.append(item)

    async def flow(ctx: OrchestrationContext, _: Any) -> None:
        await asyncio.gather(ctx.call_activity(block), ctx.call_activity(ship, input="lamp"))

    activities = stage.hub.ports.activities

    async def give_up() -> None:
        for _ in range(3):
            (delivery,) = await activities.receive(1, WAIT_S)
            await activities.abandon([delivery])

    # The only place of the worker is taken, so the second call is there for somebody else.
    options = ConcurrencyOptions(maximum_concurrent_activity_work_items=1)
    stage.worker(flow, activities=[block, ship], concurrency_options=options)
    instance_id = stage.client.schedule_new_orchestration(flow)
    assert entered.wait(WAIT_S)
    stage.hub.run(give_up)
    gate.set()
    stage.restart()
    state = stage.end(instance_id)
    assert state.failure_details is not None
    assert "was handed out 3 times" in state.failure_details.message
    stage.eventually(lambda: len(stage.client.list_dead_letters()) == 1)
    (letter,) = stage.client.list_dead_letters()
    assert (letter.activity, letter.instance_ids, letter.delivery_count) == ("ship", (instance_id,), 3)

    stage.client.redrive_dead_letter(letter.letter_id)
    stage.eventually(lambda: runs == ["lamp"])
    assert stage.state(instance_id).runtime_status is FAILED


def test_b126_only_so_many_dead_letters_are_kept(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(dead_letters_kept_max=3)
    for number in range(5):
        stage.client.raise_orchestration_event("i", f"event {number}")
        put_aside(stage, "i")
    queue, archive = stage.hub.ports.orchestrations, stage.hub.ports.archive

    async def keep_all() -> list[DeadLetter]:
        letters = [*await queue.dead_letters(10)]
        for letter in letters:
            await archive.keep(letter)
        return letters

    assert len(stage.hub.run(keep_all)) == 5
    kept = stage.client.list_dead_letters()
    assert len(kept) == 3
    assert [letter.enqueued_at for letter in kept] == sorted(letter.enqueued_at for letter in kept)
    assert stage.client.get_hub_statistics().dead_letters_kept == 3


# ---------------------------------------------------------------- statistics


def test_b127_statistics_count_instances_messages_activities_and_workers(stage: Stage, hub_kind: str) -> None:
    # Service Bus counts whole queues, and tasks that were received with those that wait; Tables do not tell sizes.
    tells_more = hub_kind != "azure"
    gate = threading.Event()

    def block(ctx: ActivityContext, _: Any) -> None:
        assert gate.wait(WAIT_S)

    async def flow(ctx: OrchestrationContext, _: Any) -> None:
        await ctx.call_activity(block)

    empty = stage.client.get_hub_statistics()
    assert empty.instance_count == 0
    assert set(empty.instances) == set(OrchestrationStatus)
    assert [part.partition for part in empty.partitions] == [*range(stage.hub.ports.info.partitions)]
    assert empty.workers == ()
    assert {part.owner for part in empty.partitions} == {None}
    stage.client.schedule_new_orchestration(flow, instance_id="now")
    stage.client.schedule_new_orchestration(
        flow, instance_id="later", start_at=datetime.now(UTC) + timedelta(days=1)
    )
    waiting = stage.client.get_hub_statistics()
    assert (waiting.messages_waiting, waiting.messages_scheduled) == (1, 1)
    own = waiting.partitions[stage.partition("now")]
    assert own.messages_waiting == (1 if tells_more else None)
    if tells_more:
        assert own.oldest_message_at is not None
        assert abs(own.oldest_message_at - stage.state("now").created_at) < timedelta(seconds=WAIT_S)
    assert waiting.instances[OrchestrationStatus.PENDING] == waiting.instance_count == 2
    assert (waiting.stored_bytes or 0) > 0 or not tells_more

    stage.worker(flow, breaks, activities=[block])
    stage.eventually(lambda: activities_of(stage) == ((0, 1) if tells_more else (1, None)))
    stage.run(breaks)
    stage.eventually(lambda: {part.owner for part in stage.client.get_hub_statistics().partitions} != {None})
    running = stage.client.get_hub_statistics()
    assert {status.name: count for status, count in running.instances.items() if count} == {
        "PENDING": 1,
        "RUNNING": 1,
        "FAILED": 1,
    }
    (worker,) = running.workers
    assert not worker.is_stopping
    gate.set()
    stage.end("now")
    stage.eventually(lambda: activities_of(stage) == (0, 0 if tells_more else None))
    stage.eventually(lambda: messages_of(stage) == (0, 1))


def messages_of(stage: Stage) -> tuple[int, int]:
    statistics = stage.client.get_hub_statistics()
    return statistics.messages_waiting, statistics.messages_scheduled


def activities_of(stage: Stage) -> tuple[int, int | None]:
    statistics = stage.client.get_hub_statistics()
    return statistics.activities_waiting, statistics.activities_running


# ---------------------------------------------------------------- retention


def test_b128_ended_instances_go_after_a_set_time_and_living_ones_stay(
    open_stage: Callable[..., Stage],
) -> None:
    stage = open_stage(retention_s=0.05, retention_sweep_s=0.02, retention_purges_max=3)
    stage.worker(echo, waits, breaks)
    living = stage.client.schedule_new_orchestration(waits)
    started = [stage.client.schedule_new_orchestration(echo, input="x" * 40_000) for _ in range(10)]
    started.append(stage.client.schedule_new_orchestration(breaks))
    started.append(stage.client.schedule_new_orchestration(waits))
    stage.client.terminate_orchestration(started[-1])
    for instance_id in started:
        stage.until(instance_id, lambda row: row is None)
    assert ids(stage) == [living]
    for instance_id in started:
        stage.eventually(lambda name=instance_id: stage.blobs(name) == [])


def test_b128_each_status_may_have_a_time_of_its_own(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(retention_s=3600, retention_completed_s=0.02, retention_sweep_s=0.02)
    stage.worker(echo, breaks)
    stage.run(breaks, instance_id="broken")
    for number in range(5):
        stage.client.schedule_new_orchestration(echo, instance_id=f"{number}")
        stage.until(f"{number}", lambda row: row is None)
    assert ids(stage) == ["broken"]


def test_b128_without_a_retention_instances_stay(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(retention_sweep_s=0.01, retention_terminated_s=0.01)
    stage.worker(echo, waits)
    stage.result(echo, instance_id="kept")
    stage.client.schedule_new_orchestration(waits, instance_id="doomed")
    stage.client.terminate_orchestration("doomed")
    stage.until("doomed", lambda row: row is None)
    assert ids(stage) == ["kept"]

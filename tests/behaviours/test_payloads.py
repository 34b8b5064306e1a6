"""B110 to B112, B156: values of every size, each where it belongs, none that is too large, and none left for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    OrchestrationContext,
    OrchestrationStatus,
    PayloadTooLargeError,
    TaskFailedError,
    history,
    when_all,
)
from durabletask_azure.core.payloads import BlobRef, payload_name
from tests.behaviours.stage import Stage

LARGE = "é" * 40_000
SMALL = "é" * 40


def echo(ctx: ActivityContext, value: Any) -> Any:
    return value


async def through(ctx: OrchestrationContext, value: Any) -> Any:
    """Pass a value through an activity and an event, and show it as custom status."""
    value = await ctx.call_activity(echo, input=value)
    ctx.set_custom_status(value)
    event = await ctx.wait_for_external_event("value")
    assert event == value
    return value


@pytest.mark.parametrize(("value", "spilled"), [(SMALL, False), (LARGE, True)], ids=["small", "large"])
def test_b110_input_output_event_tags_and_status(stage: Stage, value: str, spilled: bool) -> None:
    stage.worker(through, activities=[echo])
    instance_id = stage.client.schedule_new_orchestration(through, input=value, tags={"tag": value})
    stage.client.raise_orchestration_event(instance_id, "value", data=value)
    assert stage.completed(instance_id) == value
    state = stage.state(instance_id)
    assert (state.get_input(), state.get_custom_status(), state.tags) == (value, value, {"tag": value})
    row = stage.existing_row(instance_id)
    stored = (row.input, row.output, row.custom_status, row.tags)
    assert [isinstance(kept, BlobRef) for kept in stored] == [spilled] * 4
    assert bool(stage.blobs(instance_id)) is spilled
    assert value not in row.tail.decode() or not spilled
    for event in stage.client.get_orchestration_history(instance_id):
        match event:
            case history.TaskScheduledEvent() | history.EventRaisedEvent() | history.ExecutionStartedEvent():
                assert event.input == f'"{value}"'
            case history.TaskCompletedEvent() | history.ExecutionCompletedEvent():
                assert event.result == f'"{value}"'
            case _:
                pass
    # A cold replay reads the spilled values back.
    stage.restart()
    assert stage.state(instance_id).get_output() == value


def test_b110_a_replay_reads_spilled_values_back(stage: Stage) -> None:
    async def twice(ctx: OrchestrationContext, value: str) -> str:
        first = await ctx.call_activity(echo, input=value)
        await ctx.wait_for_external_event("go")
        return first + await ctx.call_activity(echo, input=value)

    stage.worker(twice, activities=[echo])
    instance_id = stage.client.schedule_new_orchestration(twice, input=LARGE)
    stage.eventually(lambda: "TaskCompleted" in stage.events(instance_id))
    stage.restart()
    stage.client.raise_orchestration_event(instance_id, "go")
    assert stage.completed(instance_id) == LARGE * 2


def test_b110_a_large_result_of_a_child_outlives_the_child(stage: Stage) -> None:
    async def child(ctx: OrchestrationContext, value: str) -> str:
        return value * 2

    async def parent(ctx: OrchestrationContext, value: str) -> list[Any]:
        result = await ctx.call_sub_orchestrator(child, input=value, instance_id="child")
        await ctx.wait_for_external_event("go")
        return [result == value * 2, len(result)]

    stage.worker(parent, child)
    instance_id = stage.client.schedule_new_orchestration(parent, input=LARGE)
    stage.eventually(lambda: "SubOrchestrationInstanceCompleted" in stage.events(instance_id))
    assert stage.client.purge_orchestration("child").deleted_instance_count == 1
    stage.eventually(lambda: stage.blobs("child") == [])
    stage.restart()
    stage.client.raise_orchestration_event(instance_id, "go")
    assert stage.completed(instance_id) == [True, 80_000]


def test_b110_a_large_failure_is_spilled_and_read_back(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(payload_inline_bytes_max=1_000)

    def fails(ctx: ActivityContext, _: Any) -> None:
        raise ValueError("v" * 5_000)

    async def flow(ctx: OrchestrationContext, _: Any) -> None:
        await ctx.call_activity(fails)

    stage.worker(flow, activities=[fails])
    state = stage.run(flow, instance_id="flow")
    assert state.runtime_status is OrchestrationStatus.FAILED
    assert state.failure_details is not None
    assert "v" * 5_000 in state.failure_details.message
    assert isinstance(stage.existing_row("flow").failure, BlobRef)
    ended = [
        event
        for event in stage.client.get_orchestration_history("flow")
        if isinstance(event, history.TaskFailedEvent)
    ]
    assert ended[0].failure_details is not None
    assert ended[0].failure_details.message == "v" * 5_000


def test_b110_a_large_reason_of_a_termination(stage: Stage) -> None:
    stage.worker(through, activities=[echo])
    instance_id = stage.client.schedule_new_orchestration(through, input=1)
    stage.client.wait_for_orchestration_start(instance_id)
    stage.client.suspend_orchestration(instance_id, reason=LARGE)
    stage.until_status(instance_id, OrchestrationStatus.SUSPENDED)
    stage.client.terminate_orchestration(instance_id, output=LARGE)
    assert stage.end(instance_id).get_output() == LARGE
    assert isinstance(stage.existing_row(instance_id).output, BlobRef)
    suspended = [
        event
        for event in stage.client.get_orchestration_history(instance_id)
        if isinstance(event, history.ExecutionSuspendedEvent)
    ]
    assert [event.input for event in suspended] == [LARGE]


SIZES = {
    "32767 units": "u" * 32_765,
    "32768 units": "u" * 32_766,
    "32769 units": "u" * 32_767,
    "emoji at the limit": "😀" * 16_383,
    "emoji over the limit": "😀" * 16_384,
    "inline bytes": "i" * (30 * 1024 - 2),
    "one byte over": "i" * (30 * 1024 - 1),
    "64 KiB": "k" * 65_536,
    "1 MiB": "m" * 1_048_576,
    "4 MiB": "M" * 4_194_304,
}


@pytest.mark.parametrize("size", SIZES)
def test_b111_values_at_the_limits(stage: Stage, size: str) -> None:
    value = SIZES[size]
    stage.worker(through, activities=[echo])
    instance_id = stage.client.schedule_new_orchestration(through, input=value, raise_event=("value", value))
    assert stage.completed(instance_id) == value
    assert stage.state(instance_id).get_input() == value
    # The limit counts bytes of UTF-8 of the JSON text, quotes included; not characters.
    is_large = len(value.encode()) + 2 > stage.hub.settings.payload_inline_bytes_max
    row = stage.existing_row(instance_id)
    assert [isinstance(kept, BlobRef) for kept in (row.input, row.output)] == [is_large] * 2


@pytest.mark.parametrize("count", [99, 100, 101])
def test_b111_ninety_nine_to_one_hundred_and_one_rows(stage: Stage, count: int) -> None:
    async def child(ctx: OrchestrationContext, number: int) -> int:
        return number

    async def parent(ctx: OrchestrationContext, count: int) -> int:
        return sum(await when_all([ctx.call_sub_orchestrator(child, input=i) for i in range(count)]))

    stage.worker(parent, child)
    assert stage.result(parent, count) == count * (count - 1) // 2
    assert len(stage.client.get_all_orchestration_states()) == count + 1


def test_b111_a_long_history_in_many_segments(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(history_inline_bytes_max=500, segment_bytes_max=400)

    async def flow(ctx: OrchestrationContext, count: int) -> int:
        for _ in range(count):
            await ctx.call_activity(echo, input="x" * 100)
        await ctx.wait_for_external_event("go")
        return count

    stage.worker(flow, activities=[echo])
    instance_id = stage.client.schedule_new_orchestration(flow, input=30)
    stage.eventually(lambda: stage.events(instance_id).count("TaskCompleted") == 30)
    assert stage.existing_row(instance_id).segments > 10
    stage.restart()
    stage.client.raise_orchestration_event(instance_id, "go")
    assert stage.completed(instance_id) == 30


def test_b112_over_the_cap_is_an_error_at_the_caller(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(payload_bytes_max=50_000)
    stage.worker(through, activities=[echo])
    most, too_much = "x" * 49_998, "x" * 50_000
    fits = stage.client.schedule_new_orchestration(through, input=most, raise_event=("value", most))
    assert stage.completed(fits) == most
    with pytest.raises(PayloadTooLargeError, match="the input of 'big' is 50,002 bytes; at most 50,000"):
        stage.client.schedule_new_orchestration(through, input=too_much, instance_id="big")
    with pytest.raises(PayloadTooLargeError, match="the tags"):
        stage.client.schedule_new_orchestration(through, tags={"t": too_much}, instance_id="big")
    assert stage.row("big") is None
    assert stage.blobs("big") == []
    with pytest.raises(PayloadTooLargeError, match="event 'e'"):
        stage.client.raise_orchestration_event("big", "e", data=too_much)
    with pytest.raises(PayloadTooLargeError, match="termination"):
        stage.client.terminate_orchestration("big", output=too_much)
    with pytest.raises(PayloadTooLargeError, match="reason"):
        stage.client.suspend_orchestration("big", reason=too_much + "x")


def test_b112_over_the_cap_fails_that_instance_and_never_sticks(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(payload_bytes_max=50_000)

    def grows(ctx: ActivityContext, _: Any) -> str:
        return "x" * 50_001

    async def big_result(ctx: OrchestrationContext, _: Any) -> str:
        return "x" * 50_001

    async def big_input(ctx: OrchestrationContext, _: Any) -> None:
        await ctx.call_activity(echo, input="x" * 50_001)

    async def big_status(ctx: OrchestrationContext, _: Any) -> None:
        ctx.set_custom_status("x" * 50_001)

    async def big_activity(ctx: OrchestrationContext, _: Any) -> str:
        try:
            return await ctx.call_activity(grows)
        except TaskFailedError as error:
            return error.details.error_type

    stage.worker(big_result, big_input, big_status, big_activity, activities=[echo, grows])
    for orchestrator in (big_result, big_input, big_status):
        state = stage.run(orchestrator)
        assert state.runtime_status is OrchestrationStatus.FAILED
        assert state.failure_details is not None
        assert state.failure_details.error_type.endswith("PayloadTooLargeError")
        assert "at most 50,000" in state.failure_details.message
    assert stage.result(big_activity).endswith("PayloadTooLargeError")


def test_b156_orphaned_values_are_collected_and_a_living_instances_never(
    open_stage: Callable[..., Stage],
) -> None:
    stage = open_stage(orphan_collect_s=0.2, orphan_age_s=0.1)
    payloads = stage.hub.ports.payloads
    # Before there is a worker: a value is to be older than any start takes, and here it need not be.
    alive = stage.client.schedule_new_orchestration(through, input=LARGE)
    stage.worker(through, activities=[echo])
    stage.until(alive, lambda row: row is not None and row.custom_status is not None)
    own = stage.blobs(alive)
    assert own

    def lose(instance_id: str) -> None:
        value = b"of a commit that never came"
        name = payload_name(stage.partition(instance_id), instance_id, "lost", value)
        stage.hub.run(lambda: payloads.put(name, value))

    # As young as any of its values, so whoever takes these away has looked at those as well.
    lose(alive)
    lose("nobody")
    stage.eventually(lambda: not stage.blobs("nobody"))
    stage.eventually(lambda: not any("/lost/" in name for name in stage.blobs(alive)))
    assert stage.blobs(alive) == own
    stage.restart()  # what runs now has to read all of them again
    stage.client.raise_orchestration_event(alive, "value", data=LARGE)
    assert stage.completed(alive) == LARGE

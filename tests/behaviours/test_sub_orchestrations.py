"""B40 to B50: orchestrations that call orchestrations."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    OrchestrationContext,
    OrchestrationFailedError,
    OrchestrationStatus,
    RetryPolicy,
    TaskFailedError,
    history,
    when_all,
)
from tests.behaviours.stage import WAIT_S, Stage

SOON = timedelta(milliseconds=10)


async def double(ctx: OrchestrationContext, number: int) -> int:
    return number * 2


def children_of(stage: Stage, instance_id: str) -> list[str]:
    return [
        event.instance_id
        for event in stage.client.get_orchestration_history(instance_id)
        if isinstance(event, history.SubOrchestrationInstanceCreatedEvent)
    ]


def test_b40_the_parent_gets_the_childs_result(stage: Stage) -> None:
    async def parent(ctx: OrchestrationContext, number: int) -> int:
        return await ctx.call_sub_orchestrator(double, input=number) + 1

    stage.worker(parent, double)
    assert stage.result(parent, 20, instance_id="parent") == 41
    (child,) = children_of(stage, "parent")
    state = stage.state(child)
    assert state.runtime_status is OrchestrationStatus.COMPLETED
    assert (state.name, state.get_input(), state.get_output()) == ("double", 20, 40)


def test_b41_a_child_with_an_id_of_its_own(stage: Stage) -> None:
    async def parent(ctx: OrchestrationContext, number: int) -> int:
        return await ctx.call_sub_orchestrator(double, input=number, instance_id="my child")

    stage.worker(parent, double)
    assert stage.result(parent, 4) == 8
    assert stage.state("my child").get_output() == 8


def test_b41_the_id_of_a_living_instance_fails_the_parents_task(stage: Stage) -> None:
    async def waits(ctx: OrchestrationContext, _: Any) -> str:
        return await ctx.wait_for_external_event("go")

    async def parent(ctx: OrchestrationContext, _: Any) -> str:
        try:
            return await ctx.call_sub_orchestrator(waits, instance_id="taken")
        except TaskFailedError as error:
            return error.details.error_type

    stage.worker(parent, waits)
    stage.client.schedule_new_orchestration(waits, instance_id="taken")
    stage.client.wait_for_orchestration_start("taken")
    assert stage.result(parent) == "OrchestrationAlreadyExistsError"
    stage.client.raise_orchestration_event("taken", "go", data="undisturbed")
    assert stage.completed("taken") == "undisturbed"


def test_b42_a_child_by_name(stage: Stage) -> None:
    async def parent(ctx: OrchestrationContext, number: int) -> int:
        return await ctx.call_sub_orchestrator("double", input=number)

    stage.worker(parent, double)
    assert stage.result(parent, 6) == 12


def test_b43_a_fan_out_of_children(stage: Stage) -> None:
    async def parent(ctx: OrchestrationContext, count: int) -> int:
        return sum(await when_all([ctx.call_sub_orchestrator(double, input=i) for i in range(count)]))

    stage.worker(parent, double)
    assert stage.result(parent, 60, instance_id="many") == 60 * 59
    children = children_of(stage, "many")
    assert len(set(children)) == 60
    assert {stage.state(child).runtime_status for child in children} == {OrchestrationStatus.COMPLETED}


def test_b44_a_childs_failure_surfaces_with_its_cause_chain(stage: Stage) -> None:
    def explode(ctx: ActivityContext, _: Any) -> None:
        try:
            raise KeyError("the root of it")
        except KeyError as error:
            raise ValueError("no such thing") from error

    async def child(ctx: OrchestrationContext, _: Any) -> None:
        await ctx.call_activity(explode)

    async def parent(ctx: OrchestrationContext, _: Any) -> None:
        await ctx.call_sub_orchestrator(child)

    stage.worker(parent, child, activities=[explode])
    state = stage.run(parent, instance_id="parent")
    assert state.runtime_status is OrchestrationStatus.FAILED
    chain: list[tuple[str, str]] = []
    failure = state.failure_details
    while failure is not None:
        chain.append((failure.error_type.rsplit(".", 1)[-1], failure.message))
        failure = failure.inner_failure
    assert [kind for kind, _ in chain][-2:] == ["ValueError", "KeyError"]
    assert chain[-2][1] == "no such thing"
    assert "the root of it" in chain[-1][1]
    (child_id,) = children_of(stage, "parent")
    child_state = stage.state(child_id)
    assert child_state.runtime_status is OrchestrationStatus.FAILED
    with pytest.raises(OrchestrationFailedError, match="no such thing"):
        child_state.raise_if_failed()


def test_b45_a_child_is_retried_until_it_succeeds(stage: Stage) -> None:
    tries: list[str] = []

    async def shaky(ctx: OrchestrationContext, _: Any) -> str:
        if not ctx.is_replaying:
            tries.append(ctx.instance_id)
        if len(tries) < 3:
            raise RuntimeError("not yet")
        return "at last"

    async def parent(ctx: OrchestrationContext, _: Any) -> str:
        policy = RetryPolicy(first_retry_interval=SOON, max_number_of_attempts=5)
        return await ctx.call_sub_orchestrator(shaky, retry_policy=policy)

    stage.worker(parent, shaky)
    assert stage.result(parent) == "at last"
    assert len(tries) == 3
    statuses = [stage.state(instance_id).runtime_status.name for instance_id in tries]
    assert statuses[-1] == "COMPLETED"
    assert set(statuses) <= {"FAILED", "COMPLETED"}


def test_b46_a_childs_retries_are_exhausted(stage: Stage) -> None:
    tries: list[str] = []

    async def broken(ctx: OrchestrationContext, _: Any) -> None:
        tries.append(ctx.instance_id)
        raise RuntimeError("never")

    async def parent(ctx: OrchestrationContext, _: Any) -> None:
        policy = RetryPolicy(first_retry_interval=SOON, max_number_of_attempts=3)
        await ctx.call_sub_orchestrator(broken, retry_policy=policy)

    stage.worker(parent, broken)
    state = stage.run(parent, instance_id="parent")
    assert state.runtime_status is OrchestrationStatus.FAILED
    assert state.failure_details is not None
    assert "never" in state.failure_details.message
    assert len(tries) == 3
    assert stage.events("parent").count("SubOrchestrationInstanceFailed") == 3


def test_b47_the_parents_id_is_visible_and_null_at_the_top(stage: Stage) -> None:
    async def child(ctx: OrchestrationContext, _: Any) -> str | None:
        return ctx.parent_instance_id

    async def parent(ctx: OrchestrationContext, _: Any) -> list[Any]:
        return [ctx.parent_instance_id, await ctx.call_sub_orchestrator(child, instance_id="kid")]

    stage.worker(parent, child)
    assert stage.result(parent, instance_id="top") == [None, "top"]
    assert stage.state("kid").parent_instance_id == "top"
    assert stage.state("top").parent_instance_id is None


def test_b48_children_run_concurrently(stage: Stage) -> None:
    barrier = threading.Barrier(8, timeout=WAIT_S)

    def meet(ctx: ActivityContext, _: Any) -> None:
        barrier.wait()

    async def child(ctx: OrchestrationContext, number: int) -> int:
        await ctx.call_activity(meet)
        return number

    async def parent(ctx: OrchestrationContext, count: int) -> list[int]:
        return await when_all([ctx.call_sub_orchestrator(child, input=i) for i in range(count)])

    stage.worker(parent, child, activities=[meet])
    assert stage.result(parent, 8) == list(range(8))


def test_b49_tags_merge_and_the_childs_override(stage: Stage) -> None:
    async def child(ctx: OrchestrationContext, _: Any) -> dict[str, str]:
        return ctx.tags

    async def parent(ctx: OrchestrationContext, _: Any) -> dict[str, str]:
        return await ctx.call_sub_orchestrator(child, instance_id="kid", tags={"team": "b", "own": "1"})

    stage.worker(parent, child)
    expected = {"team": "b", "region": "eu", "own": "1"}
    assert stage.result(parent, instance_id="top", tags={"team": "a", "region": "eu"}) == expected
    assert stage.state("kid").tags == expected
    assert stage.state("top").tags == {"team": "a", "region": "eu"}


def test_b50_a_fire_and_forget_child_outlives_its_parent(stage: Stage) -> None:
    async def child(ctx: OrchestrationContext, _: Any) -> str:
        return await ctx.wait_for_external_event("go")

    async def parent(ctx: OrchestrationContext, _: Any) -> str:
        ctx.call_sub_orchestrator(child, instance_id="free")
        return "gone"

    stage.worker(parent, child)
    assert stage.result(parent, instance_id="top") == "gone"
    stage.until_status("free", OrchestrationStatus.RUNNING)
    stage.client.raise_orchestration_event("free", "go", data="still here")
    assert stage.completed("free") == "still here"
    assert stage.events("top")[-1] == "ExecutionCompleted"

"""B129: many instances started or purged in one call, with progress, and nothing lost when it ends early."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest

from durabletask_azure import (
    AsyncTaskHubClient,
    BulkInterruptedError,
    BulkProgress,
    BulkStartResult,
    DeadLetterNotFoundError,
    NewOrchestration,
    OrchestrationAlreadyExistsError,
    OrchestrationContext,
    OrchestrationIdReusePolicy,
    OrchestrationQuery,
    OrchestrationStatus,
    PurgeInstancesResult,
    SerializationError,
    TaskHub,
    TaskHubClient,
)
from tests.behaviours.stage import WAIT_S, Stage

COMPLETED = OrchestrationStatus.COMPLETED
LATER = datetime(2100, 1, 1, tzinfo=UTC)


async def echo(ctx: OrchestrationContext, value: Any) -> Any:
    return value


async def waits(ctx: OrchestrationContext, _: Any) -> str:
    return await ctx.wait_for_external_event("go")


def ids(stage: Stage) -> list[str]:
    return sorted(state.instance_id for state in stage.client.iter_orchestration_states())


def test_b129_many_starts_tell_of_each_what_came_of_it(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(bulk_portion_max=4)
    stage.worker(echo, waits)
    stage.client.schedule_new_orchestration(waits, instance_id="taken")
    requests: list[Any] = [
        NewOrchestration(echo, 1, "first", tags={"a": "b"}, version="7"),
        NewOrchestration(echo, object(), "no json"),
        NewOrchestration(echo, 2, "taken"),
        NewOrchestration("", 3),
        "not a request",
        NewOrchestration(echo, 4, "i" * 501),
        NewOrchestration(waits, 5, "waits", raise_event=("go", "gone")),
        NewOrchestration(echo, 6, "later", start_at=LATER),
        NewOrchestration(echo, 7, ""),
        NewOrchestration(echo, 8),
    ]
    heard: list[BulkProgress] = []
    result = stage.client.schedule_new_orchestrations(requests, on_progress=heard.append)

    assert [one.is_started for one in result.results] == [
        *(True, False, False, False, False, False, True, True, False, True)
    ]
    assert [one.instance_id for one in result.results][:3] == ["first", "no json", "taken"]
    errors = [type(one.error).__name__ for one in result.refused]
    assert errors == [
        *("SerializationError", "OrchestrationAlreadyExistsError", "ConfigurationError", "ArgumentTypeError"),
        *("ConfigurationError", "ConfigurationError"),
    ]
    assert result.started[:3] == ["first", "waits", "later"]
    assert stage.completed("first") == 1
    assert (stage.state("first").tags, stage.state("first").version) == ({"a": "b"}, "7")
    assert stage.completed("waits") == "gone"
    assert stage.completed(result.started[-1]) == 8
    assert stage.state("later").scheduled_start == LATER.replace(tzinfo=None)
    assert [(one.succeeded, one.failed, one.total) for one in heard] == [(1, 3, 10), (3, 5, 10), (4, 6, 10)]


def test_b129_many_starts_take_a_generator_piece_by_piece(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(bulk_portion_max=10, bulk_portion_bytes_max=100)
    taken: list[int] = []
    heard: list[tuple[BulkProgress, int]] = []

    def requests() -> Iterator[NewOrchestration]:
        for number in range(35):
            taken.append(number)
            yield NewOrchestration(echo, "x" * 150 if number == 5 else None, f"{number:02}")

    result = stage.client.schedule_new_orchestrations(
        requests(), on_progress=lambda progress: heard.append((progress, len(taken)))
    )
    assert result.started == [f"{number:02}" for number in range(35)]
    # A portion ends where its inputs are large enough, and nothing is taken ahead of it.
    assert [count for _, count in heard] == [6, 16, 26, 35]
    assert [(one.succeeded, one.total) for one, _ in heard] == [(6, None), (16, None), (26, None), (35, None)]
    assert stage.client.schedule_new_orchestrations([]) == BulkStartResult(())


@pytest.mark.parametrize("who", ["on_progress", "requests"])
def test_b129_an_error_of_the_caller_loses_nothing_of_many_starts(
    open_stage: Callable[..., Stage], who: str
) -> None:
    stage = open_stage(bulk_portion_max=3)

    def requests() -> Iterator[NewOrchestration]:
        for number in range(9):
            if who == "requests" and number == 7:
                raise KeyError("no more")
            yield NewOrchestration(echo, instance_id=f"{number}")

    def heard(progress: BulkProgress) -> None:
        if who == "on_progress" and progress.succeeded == 6:
            raise KeyError("no more")

    with pytest.raises(BulkInterruptedError, match="after 6 requests: 'no more'") as caught:
        stage.client.schedule_new_orchestrations(requests(), on_progress=heard)
    assert isinstance(caught.value.__cause__, KeyError)
    assert isinstance(caught.value.result, BulkStartResult)
    assert caught.value.result.started == ids(stage) == [f"{number}" for number in range(6)]


def test_b129_a_hub_that_is_gone_ends_many_starts_and_says_what_is_known(
    open_stage: Callable[..., Stage],
) -> None:
    stage = open_stage(bulk_portion_max=2, send_retry_s_max=0.01)
    requests = [NewOrchestration(echo, instance_id=f"{number}") for number in range(6)]

    def heard(progress: BulkProgress) -> None:
        if progress.succeeded == 2:
            stage.hub.close()

    with pytest.raises(BulkInterruptedError, match="after 4 requests") as caught:
        stage.client.schedule_new_orchestrations(requests, on_progress=heard)
    assert caught.value.result.started == ["0", "1"]
    assert [one.instance_id for one in caught.value.result.refused] == ["2", "3"]


def test_b129_many_purges_report_their_progress(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(bulk_portion_max=10)
    stage.worker(echo)
    requests = [NewOrchestration(echo, number) for number in range(25)]
    for instance_id in stage.client.schedule_new_orchestrations(requests).started:
        stage.end(instance_id)
    heard: list[BulkProgress] = []

    def stop(progress: BulkProgress) -> None:
        heard.append(progress)
        raise KeyError("enough")

    with pytest.raises(BulkInterruptedError, match="after 10: 'enough'") as caught:
        stage.client.purge_orchestrations_by(on_progress=stop)
    assert caught.value.result == PurgeInstancesResult(10, False)
    assert len(ids(stage)) == 15
    result = stage.client.purge_orchestrations_by(on_progress=heard.append)
    assert result == PurgeInstancesResult(15, True)
    assert [(one.succeeded, one.failed, one.total) for one in heard][:3] == [
        (10, 0, None),
        (10, 0, None),
        (15, 0, None),
    ]
    assert ids(stage) == []


async def test_b129_the_async_client_does_the_same(hub: TaskHub) -> None:
    stage = Stage(hub)
    stage.worker(echo)
    client = AsyncTaskHubClient(hub)
    heard: list[tuple[BulkProgress, object]] = []
    requests = [
        NewOrchestration(echo, 1, "a"),
        NewOrchestration(echo, object(), "b"),
        NewOrchestration(echo, 2, "c"),
    ]
    result = await client.schedule_new_orchestrations(
        requests, on_progress=lambda progress: heard.append((progress, asyncio.current_task()))
    )
    assert result.started == ["a", "c"]
    assert isinstance(result.refused[0].error, SerializationError)
    # It is told in the caller's own loop and task.
    assert heard == [(BulkProgress(2, 1, 3), asyncio.current_task())]
    for instance_id in ("a", "c"):
        await client.wait_for_orchestration_completion(instance_id, timeout=WAIT_S)
    again = await client.schedule_new_orchestrations(
        [NewOrchestration(echo, 1, "d"), NewOrchestration(echo, 1, "d")]
    )
    assert [type(one.error) for one in again.refused] in ([OrchestrationAlreadyExistsError], [])
    await client.wait_for_orchestration_completion("d", timeout=WAIT_S)
    assert (await client.get_hub_statistics()).instances[COMPLETED] == 3
    purged = await client.purge_orchestrations_by(query=OrchestrationQuery(instance_ids=["a", "d"]))
    assert purged == PurgeInstancesResult(2, True)
    assert await client.list_dead_letters() == []
    with pytest.raises(DeadLetterNotFoundError):
        await client.redrive_dead_letter("7")

    def stop(progress: BulkProgress) -> None:
        raise IndexError(progress.total)

    with pytest.raises(BulkInterruptedError, match="after 3 requests: 3") as caught:
        await client.schedule_new_orchestrations(requests, on_progress=stop)
    assert isinstance(caught.value.__cause__, IndexError)


def test_b129_a_request_says_what_becomes_of_a_taken_id(stage: Stage) -> None:
    stage.worker(echo, waits)
    stage.client.schedule_new_orchestration(waits, instance_id="taken")
    stage.client.wait_for_orchestration_start("taken", timeout=WAIT_S)
    running = [OrchestrationStatus.RUNNING]
    ignoring = OrchestrationIdReusePolicy([], ignorable_status=running)
    replacing = OrchestrationIdReusePolicy(running)
    requests = [
        NewOrchestration(echo, 1, "taken"),
        NewOrchestration(echo, 2, "taken", reuse_id_policy=ignoring),
        NewOrchestration(echo, 3, "other", reuse_id_policy=ignoring),
    ]
    result = stage.client.schedule_new_orchestrations(requests)
    assert [one.is_started for one in result.results] == [False, True, True]
    assert stage.state("taken").runtime_status is OrchestrationStatus.RUNNING

    stage.client.schedule_new_orchestrations([NewOrchestration(echo, 4, "taken", reuse_id_policy=replacing)])
    assert (stage.completed("taken"), stage.completed("other")) == (4, 3)


def test_b129_a_request_has_everything_a_single_start_has() -> None:
    single = inspect.signature(TaskHubClient.schedule_new_orchestration).parameters
    assert {field.name for field in fields(NewOrchestration)} == single.keys() - {"self"}

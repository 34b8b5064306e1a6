"""Each row of the table in ``docs/durabletask.md``, shown by the test of its name; no row without one, and no other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durabletask_azure import (
    ConcurrencyOptions,
    DurableTaskError,
    OrchestrationContext,
    OrchestrationIdReusePolicy,
    OrchestrationStatus,
    RetryPolicy,
    Settings,
    TaskActivity,
    TaskHub,
    TaskHubClient,
    TaskHubWorker,
    errors,
)
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.partitioning import partition_of
from durabletask_azure.core.retry import next_delay
from tests.parity.differences import ADAPTATIONS, BACKEND, PAGE, rows
from tests.parity.missing import MISSING
from tests.parity.sides import WAIT_S, Api, Side
from tests.parity.surface import THEIRS

Both = Callable[[str], tuple[Any, Any]]
Run = Callable[..., Any]


@pytest.fixture
def both(theirs: Side, ours: Side) -> Both:
    """What a program does there and here."""
    return lambda name: (theirs.runs[name](), ours.runs[name]())


@dataclass
class Shop:
    """A hub of our own with a worker that is not started, and a client."""

    worker: TaskHubWorker
    client: TaskHubClient

    def result(self, orchestrator: Any, input: Any = None) -> Any:
        """Run an orchestration, let it go on with an event if it waits for one, and return its output."""
        if not self.worker.is_running:
            self.worker.start()
        state = self.client.wait_for_orchestration_completion(
            self.client.schedule_new_orchestration(orchestrator, input=input), timeout=WAIT_S
        )
        assert state is not None
        assert state.runtime_status is OrchestrationStatus.COMPLETED, state
        return state.get_output()


@pytest.fixture
def shop() -> Iterator[Shop]:
    """An empty hub in memory."""
    with TaskHub.local() as hub:
        yield Shop(TaskHubWorker(hub), TaskHubClient(hub))


# ------------------------------------------------------------ the table and its tests


def slug(row: str) -> str:
    """Return the name of the test of a row."""
    return "test_" + re.sub(r"\W+", "_", row)


def test_each_row_has_a_test_and_each_test_a_row() -> None:
    tests = {name for name in globals() if name.startswith("test_") and name != this_test}
    expected = {slug(row) for row in rows()}
    assert sorted(expected - tests) == [], f"rows of {PAGE.name} without a test of their name"
    assert sorted(tests - expected) == [], f"tests without a row in {PAGE.name}"
    assert len(rows()) == len(expected)
    assert rows().keys() >= {*ADAPTATIONS, BACKEND}
    assert all(there != here for there, here in rows().values())
    reasons = re.findall(r"^- (.*)$", PAGE.read_text(encoding="utf-8").split("## What is not here")[1], re.M)
    assert reasons == list(MISSING), f"the reasons in {PAGE.name} and in tests/parity/missing.py differ"


this_test = test_each_row_has_a_test_and_each_test_a_row.__name__


# ------------------------------------------------------------ one test each


def test_async_orchestrators(shop: Shop) -> None:
    def double(ctx: Any, number: int) -> int:
        return number * 2

    async def flow(ctx: OrchestrationContext, count: int) -> list[int]:
        async with asyncio.timeout(60):
            return await asyncio.gather(*(ctx.call_activity(double, input=number) for number in range(count)))

    shop.worker.add_orchestrator(flow)
    shop.worker.add_activity(double)
    assert shop.result(flow, 3) == [0, 2, 4]


def test_what_can_be_registered(shop: Shop) -> None:
    class Double(TaskActivity[int, int]):
        def run(self, ctx: Any, input: int) -> int:
            return input * 2

    class Till:
        def pay(self, amount: int) -> str:
            return f"{amount} paid"

    class Flow:
        def __init__(self, version: str) -> None:
            self.version = version

        async def run(self, ctx: OrchestrationContext, amount: int) -> list[Any]:
            return [
                await ctx.call_activity(Double, input=amount),
                await ctx.call_activity("pay", input=amount),
            ]

    def old() -> Flow:
        return Flow("1")

    async def new(ctx: OrchestrationContext, amount: int) -> str:
        return "new"

    shop.worker.add_activity(Double)
    shop.worker.add_activities_from(Till())
    shop.worker.add_orchestrator(name="flow", factory=old)
    shop.worker.add_orchestrator(new, name="flow", version="2")
    assert shop.result("flow", 3) == [6, "3 paid"]
    second = shop.client.schedule_new_orchestration("flow", version="2")
    state = shop.client.wait_for_orchestration_completion(second, timeout=WAIT_S)
    assert state is not None
    assert state.get_output() == "new"
    for wrong in (Double(), Till()):
        with pytest.raises(AttributeError):
            Api.of(THEIRS).worker.TaskHubGrpcWorker().add_activity(wrong)


def test_an_orchestrator_nobody_registered(theirs: Side, ours: Side) -> None:
    failed = theirs.end(theirs.start("nobody has it"))
    assert failed.failure_details.error_type == "durabletask.worker.OrchestratorNotRegisteredError"
    instance_id = ours.start("nobody has it")
    ours.eventually(lambda: bool(ours.client.get_orchestration_state(instance_id).pending_reason))
    assert ours.status(instance_id) == "PENDING"


def test_versioning_without_a_strategy(both: Both) -> None:
    there, here = both("versions_without_a_strategy")
    assert there == [None, "VersionMismatch"]
    assert here == ["3.0", None]


def test_filters_of_orchestrations(both: Both) -> None:
    there, (ended, waiting) = both("orchestrations_of_two_workers")
    assert there == [8, 0]
    assert (ended + waiting, waiting > 0) == (8, True)


def test_long_timers(both: Both) -> None:
    assert both("long_timer") == (3, 40)


def test_a_retried_task(both: Both) -> None:
    assert both("ids_of_attempts") == ([1, 1], [2, 2])


def test_the_retry_timeout() -> None:
    theirs = Api.of(THEIRS).task
    options: dict[str, Any] = {"first_retry_interval": timedelta(1), "max_number_of_attempts": 3}
    options["retry_timeout"] = timedelta(hours=1)
    failure, start = FailureDetails("no", "ValueError"), datetime(2020, 1, 1, tzinfo=UTC)

    def their_delay(start: datetime) -> Any:
        return theirs.RetryableTask(theirs.RetryPolicy(**options), None, start, False).compute_next_delay()

    def our_delay(after: timedelta) -> Any:
        return next_delay(RetryPolicy(**options), 1, start, start + after, failure)

    # By when it is asked ...
    assert their_delay(datetime(2020, 1, 1)) is None  # noqa: DTZ001 - they compare naive times
    assert their_delay(datetime(9000, 1, 1)) == timedelta(1)  # noqa: DTZ001
    # ... and by the clock of the orchestration, whatever the time is.
    assert our_delay(timedelta(minutes=59)) == timedelta(1)
    assert our_delay(timedelta(minutes=61)) is None


def test_an_event_with_a_timeout(shop: Shop) -> None:
    async def flow(ctx: OrchestrationContext) -> str:
        try:
            return await ctx.wait_for_external_event(
                "paid", data_type=str, timeout=timedelta(milliseconds=10)
            )
        except TimeoutError:
            return "never paid"

    shop.worker.add_orchestrator(flow)
    assert shop.result(flow) == "never paid"


def test_the_same_event_twice(shop: Shop) -> None:
    async def flow(ctx: OrchestrationContext) -> list[Any]:
        return [await ctx.wait_for_external_event("paid") for _ in range(2)]

    shop.worker.add_orchestrator(flow)
    instance_id = shop.client.schedule_new_orchestration(flow)
    for data, event_id in ((1, "a"), (1, "a"), (2, "b")):
        shop.client.raise_orchestration_event(instance_id, "paid", data=data, event_id=event_id)
    shop.worker.start()
    state = shop.client.wait_for_orchestration_completion(instance_id, timeout=WAIT_S)
    assert state is not None
    assert state.get_output() == [1, 2]


def test_continue_as_new(both: Both) -> None:
    there, here = both("continued")
    assert there == [["COMPLETED", 1, None], ["COMPLETED", 1, None]]
    assert here == [["COMPLETED", 2, None], ["FAILED", None, "after all"]]


def test_groups_of_nothing(both: Both) -> None:
    assert both("groups") == ([False, False], [True, "refused"])


def test_yielding_something_else(both: Both) -> None:
    assert both("yielded") == ("hangs", "the orchestrator yielded int, which is not a durable task")


def test_annotations_that_count(both: Both) -> None:
    there, here = both("misfits")
    assert (there[2], here[2]) == ("str", "datetime")


def test_values_that_do_not_fit(both: Both) -> None:
    there, here = both("misfits")
    assert there[:2] == ["Part", "['x']"]
    assert here[0].startswith("a payload does not fit Part: ")
    assert here[1].startswith("a payload does not fit list[int]: ")
    assert here[1].endswith("$[0]`")


def test_what_JSON_holds(both: Both) -> None:
    there, here = both("json_values")
    assert there == [["COMPLETED", "FAILED", "FAILED", "FAILED"], '{"a": [1, 2]}']
    assert here == [["FAILED", "COMPLETED", "COMPLETED", "COMPLETED"], '{"a":[1,2]}']


def test_names_of_error_types(both: Both) -> None:
    there, here = both("failures")
    assert (there[0], here[0]) == ("builtins.ValueError", "ValueError")


def test_where_errors_live(both: Both) -> None:
    there, here = both("failures")
    assert there[1] == "durabletask.task.TaskFailedError"
    assert here[1] == "durabletask_azure.errors.TaskFailedError"
    theirs, ours = (Api.of(package) for package in (THEIRS, "durabletask_azure"))
    for module, name in (
        ("task", "TaskFailedError"),
        ("task", "NonDeterminismError"),
        ("task", "OrchestrationStateError"),
        ("task", "TaskCancelledError"),
        ("client", "OrchestrationFailedError"),
        ("worker", "OrchestratorNotRegisteredError"),
        ("worker", "ActivityNotRegisteredError"),
    ):
        assert issubclass(getattr(getattr(theirs, module), name), Exception)
        assert getattr(getattr(ours, module), name) is getattr(errors, name)
        assert issubclass(getattr(errors, name), DurableTaskError)


def test_messages_of_failed_tasks(both: Both) -> None:
    there, here = both("failures")
    assert re.fullmatch(r"[0-9a-f]{32}: Activity task #1 failed: no lamp", there[2])
    assert here[2] == "activity 'failures.fails' (task 1) failed: no lamp"


def test_an_id_that_is_taken(both: Both, shop: Shop) -> None:
    there, here = both("ids")
    assert there == ["_InactiveRpcError StatusCode.ALREADY_EXISTS"] * 2
    assert here == ["OrchestrationAlreadyExistsError ", "started"]

    async def flow(ctx: OrchestrationContext, number: int) -> int:
        return number or await ctx.wait_for_external_event("never", data_type=int)

    shop.worker.add_orchestrator(flow)
    shop.worker.start()
    alive = shop.client.schedule_new_orchestration(flow, input=0, instance_id="alive")
    shop.client.wait_for_orchestration_start(alive, timeout=WAIT_S)
    policy = OrchestrationIdReusePolicy([], ignorable_status=[OrchestrationStatus.RUNNING])
    shop.client.schedule_new_orchestration(flow, input=1, instance_id=alive, reuse_id_policy=policy)
    policy = OrchestrationIdReusePolicy([OrchestrationStatus.RUNNING])
    shop.client.schedule_new_orchestration(flow, input=2, instance_id=alive, reuse_id_policy=policy)
    state = shop.client.wait_for_orchestration_completion(alive, timeout=WAIT_S)
    assert state is not None
    assert state.get_output() == 2


def test_rewinding_what_was_retried_or_handled(both: Both) -> None:
    there, here = both("rewound_after_a_retry")
    assert there[1] is not None
    assert here == ["A", None]


def test_an_instance_that_does_not_exist(both: Both) -> None:
    there, here = both("strangers")
    assert there[0] == "_InactiveRpcError StatusCode.NOT_FOUND"
    assert there[1].endswith("StatusCode.NOT_FOUND")
    assert there[2] in (None, "TimeoutError")  # whichever of backend and channel gives up first
    assert here == [None, "OrchestrationNotFoundError", "TimeoutError"]


def test_the_order_of_listed_ids(both: Both) -> None:
    (started, there), (same, here) = both("listed")
    assert there == started == same
    assert here == sorted(started, key=lambda instance_id: (partition_of(instance_id, 4), instance_id))


def test_large_values(shop: Shop) -> None:
    async def flow(ctx: OrchestrationContext, text: str) -> str:
        return text[::-1]

    text = "ab" * Settings().payload_inline_bytes_max
    shop.worker.add_orchestrator(flow)
    assert shop.result(flow, text) == text[::-1]


def test_concurrency_without_options(shop: Shop) -> None:
    theirs, ours = Api.of(THEIRS).worker.ConcurrencyOptions(), ConcurrencyOptions()
    assert theirs.maximum_concurrent_activity_work_items % 100 == 0
    for name in vars(ours):
        assert getattr(ours, name) == getattr(theirs, name)
    assert Settings().activity_concurrency_max == 200


def test_its_in_memory_backend(both: Both) -> None:
    there, here = both("backend")
    assert there == [False, False, "RUNNING", "builtins.Exception"]
    assert here == [True, True, "TERMINATED", "ValueError"]

"""Instances whose version or name a worker does not take: they wait with a reason, or fail, and lose nothing."""

from __future__ import annotations

from typing import Any

from durabletask_azure.core.filters import OrchestrationWorkItemFilter, WorkItemFilters
from durabletask_azure.core.history import Parent, SubOrchestrationInstanceFailedEvent
from durabletask_azure.core.messages import ToPartition
from durabletask_azure.core.versioning import (
    VersionFailureStrategy,
    VersioningOptions,
    VersionMatchStrategy,
)
from tests.unit.bench import Bench, after


async def two_events(ctx: Any, value: Any) -> list[Any]:
    return [await ctx.wait_for_external_event("a"), await ctx.wait_for_external_event("a")]


async def endless(ctx: Any, value: Any) -> None:
    ctx.continue_as_new(value, new_version="2")


def strict(version: str, strategy: VersionFailureStrategy | None = None) -> VersioningOptions:
    return VersioningOptions(version, match_strategy=VersionMatchStrategy.STRICT, failure_strategy=strategy)


FAIL = VersionFailureStrategy.FAIL


def test_b130_what_comes_for_a_rejected_instance_is_kept_until_its_version_is_here() -> None:
    bench = Bench(two_events)
    bench.insert("two_events", version="1")
    bench.registry.versioning = strict("2")
    bench.turn(bench.raised("a", 1))
    row = bench.rows["i1"]
    assert (row.status, len(row.kept)) == ("PENDING", 1)
    assert "The orchestration version '1' does not match the worker version '2'." in str(row.reason)

    bench.registry.versioning = strict("1")
    bench.turn()
    assert (bench.rows["i1"].status, bench.rows["i1"].reason) == ("RUNNING", None)

    bench.registry.versioning = strict("2")
    bench.turn(bench.raised("a", 2))
    assert bench.rows["i1"].status == "RUNNING"
    assert bench.rows["i1"].reason is not None
    bench.registry.versioning = None
    bench.turn()
    assert bench.rows["i1"].output == "[1,2]"


def test_b130_a_failed_instance_ends_with_what_waited_for_it_and_tells_its_parent() -> None:
    bench = Bench(two_events)
    bench.insert(
        "two_events", version="1", parent=Parent("p", "px", 7, "parent"), kept=(bench.raised("a", 1),)
    )
    bench.registry.versioning = strict("2", FAIL)
    turn = bench.turn(bench.raised("a", 2))
    row = bench.rows["i1"]
    assert (row.status, row.kept, row.reason) == ("FAILED", (), None)
    assert getattr(row.failure, "error_type", None) == "VersionMismatch"
    (answer,) = [out.message.body for out in turn.outbound if isinstance(out, ToPartition)]
    assert isinstance(answer, SubOrchestrationInstanceFailedEvent)
    assert answer.failure == row.failure


def test_b130_a_running_instance_fails_at_its_next_turn() -> None:
    bench = Bench(two_events)
    bench.insert("two_events", version="1")
    bench.turn()
    assert bench.rows["i1"].status == "RUNNING"
    bench.registry.versioning = strict("2", FAIL)
    bench.turn(bench.raised("a", 1), bench.terminated("too late"))
    assert bench.rows["i1"].status == "FAILED"


def test_b130_a_start_that_is_not_due_is_not_failed_yet() -> None:
    bench = Bench(two_events)
    bench.insert("two_events", version="1", scheduled_start=after(60))
    bench.registry.versioning = strict("2", FAIL)
    bench.turn(bench.raised("a", 1))
    assert bench.rows["i1"].status == "PENDING"
    bench.now = after(60)
    bench.turn()
    assert bench.rows["i1"].status == "FAILED"


def test_b130_a_new_generation_of_another_version_waits_or_fails() -> None:
    for strategy, status in ((None, "RUNNING"), (FAIL, "FAILED")):
        bench = Bench(endless)
        bench.insert("endless", version="1")
        bench.registry.versioning = strict("1", strategy)
        bench.turn()
        bench.turn()
        row = bench.rows["i1"]
        assert (row.version, row.status, row.generation) == ("2", status, 1)


def test_b131_an_instance_that_filters_leave_out_waits() -> None:
    bench = Bench(two_events)
    bench.insert("two_events")
    bench.registry.filters = WorkItemFilters(orchestrations=[OrchestrationWorkItemFilter("other")])
    bench.turn()
    assert (bench.rows["i1"].status, bench.rows["i1"].reason) == (
        "PENDING",
        "the worker that owns the instance takes no 'two_events': see its work item filters",
    )
    bench.registry.filters = None
    bench.turn()
    assert bench.rows["i1"].status == "RUNNING"

"""What becomes of a sub-orchestration whose parent is rewound or reset: it is handed over, rewound, or gives way."""

from __future__ import annotations

from typing import Any

from durabletask_azure.core.history import (
    ExecutionRewoundEvent,
    Handover,
    Parent,
    Sender,
    SubOrchestrationInstanceCompletedEvent,
    SubOrchestrationInstanceFailedEvent,
)
from durabletask_azure.core.messages import (
    ContinuedChild,
    Message,
)
from tests.unit.bench import (
    Bench,
    after,
    bodies,
    put_back,
    to_partition,
)

P1 = Parent("p", "px", 1, "parent")
P1_REWOUND = Parent("p", "py", 1, "parent")


async def waits(ctx: Any, _: Any) -> Any:
    return await ctx.wait_for_external_event("go")


async def quick(ctx: Any, value: Any) -> Any:
    return value


async def boom(ctx: Any, _: Any) -> None:
    raise KeyError("boom")


def from_parent(
    bench: Bench,
    handover: Handover | None,
    *,
    execution: str = "c2",
    parent: Parent = P1_REWOUND,
    formers: tuple[str, ...] = ("px",),
) -> Message:
    start = bench.start_of("quick", id="i1", execution=execution, parent=parent)
    return bench.message(ContinuedChild(start=start, formers=formers, handover=handover), sender=Sender(3, 7))


def child(bench: Bench, name: str, **fields: Any) -> None:
    bench.turn(bench.child_start(name, parent=P1, **fields))


def test_a_living_child_answers_the_continued_parent() -> None:
    bench = Bench(waits)
    child(bench, "waits")
    order = from_parent(bench, Handover(rewind=True))
    bench.turn(order)
    assert bench.rows["i1"].parent == P1_REWOUND
    assert bench.kinds()[-1] == "ExecutionRewound"
    assert bench.turn(order, from_parent(bench, Handover())).is_empty
    turn = bench.turn(bench.raised("go"))
    assert [to_partition(out).message.execution_id for out in turn.outbound] == ["py"]


def test_a_cold_child_without_its_code_is_handed_over_too() -> None:
    bench = Bench(waits)
    child(bench, "waits")
    registry, bench.registry = bench.registry, Bench().registry
    bench.warm.clear()
    bench.turn(from_parent(bench, Handover()))
    bench.registry = registry
    turn = bench.turn(bench.raised("go"))
    assert [to_partition(out).message.execution_id for out in turn.outbound] == ["py"]


def test_a_pending_child_is_handed_over() -> None:
    bench = Bench()
    child(bench, "waits")
    order = from_parent(bench, Handover())
    bench.turn(order)
    assert (bench.rows["i1"].status, bench.rows["i1"].parent) == ("PENDING", P1_REWOUND)
    # An older order that comes again does not give it back.
    bench.turn(
        from_parent(bench, Handover(), execution="c3", parent=Parent("p", "pz", 1), formers=("px", "py"))
    )
    assert bench.turn(order).is_empty


def test_a_completed_child_answers_again() -> None:
    bench = Bench(quick)
    child(bench, "quick")
    turn = bench.turn(from_parent(bench, Handover(rewind=True)))
    (answer,) = bodies(turn.eventless)
    assert isinstance(answer, SubOrchestrationInstanceCompletedEvent)
    assert to_partition(turn.eventless[0]).message.execution_id == "py"
    assert (bench.rows["i1"].status, bench.rows["i1"].parent) == ("COMPLETED", P1_REWOUND)
    assert bench.turn(from_parent(bench, Handover(rewind=True))).is_empty


def test_a_failed_child_is_rewound_or_answers_again() -> None:
    for rewinds in (True, False):
        bench = Bench(boom)
        child(bench, "boom")
        turn = bench.turn(from_parent(bench, Handover(rewind=rewinds, reason="why")))
        row = bench.rows["i1"]
        assert row.parent == P1_REWOUND
        if rewinds:
            assert (row.execution_id, row.status) == ("c2", "RUNNING")
            rewound = bench.history()[-1]
            assert isinstance(rewound, ExecutionRewoundEvent)
            assert rewound.reason == "why"
            (answer,) = bodies(bench.turn().outbound)
        else:
            assert (row.execution_id, row.status) == ("c1", "FAILED")
            (answer,) = bodies(turn.eventless)
        assert isinstance(answer, SubOrchestrationInstanceFailedEvent)


def test_a_terminated_child_goes_on_with_its_rewound_parent() -> None:
    bench = Bench(waits)
    child(bench, "waits")
    bench.turn(bench.terminated())
    bench.turn(from_parent(bench, Handover(rewind=True)))
    assert bench.rows["i1"].status == "RUNNING"
    assert "ExecutionTerminated" not in bench.kinds()
    bench.turn()
    turn = bench.turn(bench.raised("go", 1))
    assert [to_partition(out).message.execution_id for out in turn.outbound] == ["py"]


def test_a_child_that_is_not_there_any_more_is_started() -> None:
    bench = Bench(quick)
    child(bench, "quick")
    bench.turn(bench.purge())
    order = from_parent(bench, Handover(rewind=True))
    bench.turn(order)
    assert (bench.rows["i1"].execution_id, bench.rows["i1"].status) == ("c2", "COMPLETED")
    bench.turn(bench.purge())
    assert bench.turn(order).is_empty


def test_an_instance_of_somebody_elses_is_left_alone() -> None:
    bench = Bench(waits)
    bench.begin("waits")
    turn = bench.turn(from_parent(bench, Handover(rewind=True)))
    assert bench.rows["i1"].parent is None
    (answer,) = bodies(turn.eventless)
    assert isinstance(answer, SubOrchestrationInstanceFailedEvent)


def test_a_child_of_a_former_execution_gives_way_to_a_new_task() -> None:
    bench = Bench(waits, quick)
    child(bench, "waits")
    turn = bench.turn(from_parent(bench, None))
    assert bench.rows["i1"].status == "TERMINATED"
    ((again, until),) = put_back(turn)
    assert until == after(1)
    bench.turn(again)
    row = bench.rows["i1"]
    assert (row.execution_id, row.parent, row.status) == ("c2", P1_REWOUND, "COMPLETED")
    assert bench.turn(again).is_empty


def test_an_order_of_an_execution_that_its_parent_has_left_behind_starts_nothing() -> None:
    for handover in (Handover(), None):
        bench = Bench(waits, quick)
        child(bench, "waits")
        again = Parent("p", "pz", 1, "parent")
        bench.turn(from_parent(bench, Handover(), execution="c3", parent=again, formers=("px", "py")))
        bench.turn(bench.raised("go", 1))
        assert (bench.rows["i1"].parent, bench.rows["i1"].status) == (again, "COMPLETED")
        # Put back when it came, for example behind a termination, so it is late.
        turn = bench.turn(from_parent(bench, handover))
        assert "its parent has gone on since" in turn.notes[0]
        assert (bench.rows["i1"].execution_id, bench.rows["i1"].parent) == ("c1", again)


def test_the_child_of_an_earlier_run_of_the_parents_id_is_started_over() -> None:
    bench = Bench(quick)
    bench.turn(bench.child_start("quick", parent=Parent("p", "p0", 1, "parent")))
    bench.now = after(60)
    bench.turn(from_parent(bench, Handover()))
    assert (bench.rows["i1"].execution_id, bench.rows["i1"].parent) == ("c2", P1_REWOUND)


def test_a_handover_behind_what_ends_the_child_comes_back() -> None:
    bench = Bench(waits)
    child(bench, "waits")
    turn = bench.turn(bench.replace("waits", ("RUNNING",)), from_parent(bench, Handover()))
    assert [type(message.body).__name__ for message, _ in put_back(turn)] == [
        "ReplaceInstance",
        "ContinuedChild",
    ]

"""How an ended instance goes, and what is left of it."""

from __future__ import annotations

from typing import Any

from durabletask_azure.core.history import Parent
from durabletask_azure.core.messages import PurgeInstance
from durabletask_azure.core.payloads import payload_prefix
from durabletask_azure.core.rows import DeleteInstance, DeleteSegments, PastExecution, PutTombstone
from tests.unit.bench import Bench, after, put_back, replaced, to_partition


async def quick(ctx: Any, value: Any) -> Any:
    return value


async def waits(ctx: Any, value: Any) -> Any:
    return await ctx.wait_for_external_event("go")


async def family(ctx: Any, value: Any) -> Any:
    ctx.call_sub_orchestrator("quick", instance_id="first")
    ctx.call_sub_orchestrator("quick", instance_id="second")


def test_f33_a_running_instance_is_not_purged() -> None:
    bench = Bench(waits)
    bench.begin("waits")
    turn = bench.turn(bench.purge())
    assert turn.is_empty
    assert "only ended instances" in turn.notes[0]
    assert "RUNNING" in turn.notes[0]


def test_f33_an_instance_with_unsent_messages_is_purged_later() -> None:
    bench = Bench(quick, is_confirming=False)
    bench.turn(bench.child_start("quick", parent=Parent("p", "px", 1)))
    turn = bench.turn(bench.purge())
    ((again, until),) = put_back(turn)
    assert (turn.writes(), until) == ([], after(1))
    bench.sent = bench.n
    bench.turn(again)
    assert bench.rows == {}


def test_f33_a_purge_leaves_a_tombstone_and_nothing_else() -> None:
    bench = Bench(quick, history_inline_bytes_max=100)
    bench.begin("quick")
    bench.turn(bench.replace("quick", ("COMPLETED",)))
    bench.rows["i1"] = replaced(
        bench.rows["i1"], past=(PastExecution("x0", 0, 0, readable=False), *bench.rows["i1"].past)
    )
    turn = bench.turn(bench.purge(execution="x2"), bench.purge(execution="x2"))
    assert bench.rows == {}
    assert bench.segments == {}
    assert [type(write) for write in turn.writes()] == [DeleteInstance, PutTombstone]
    assert all(isinstance(write, DeleteSegments) and write.count for write in turn.cleanup)
    assert turn.dropped_payloads == (payload_prefix(0, "i1"),)
    tombstone = bench.tombstones["i1"]
    assert (tombstone.execution_id, tombstone.expires_at) == ("x2", after(24 * 3600))
    assert [past.execution_id for past in tombstone.leftovers] == ["x0", "x1", "x2"]
    # idempotent
    assert bench.turn(bench.purge()).is_empty


def test_a_purge_of_another_execution_is_dropped() -> None:
    bench = Bench(quick)
    bench.begin("quick")
    assert bench.turn(bench.purge(execution="x0")).is_empty
    assert bench.turn(bench.replace("quick", ("COMPLETED",)), bench.purge(execution="x1")).writes()
    assert bench.rows["i1"].execution_id == "x2"


def test_b105_a_recursive_purge_goes_on_to_the_children_and_to_no_one_else() -> None:
    bench = Bench(family, quick)
    starts = bench.begin("family").outbound
    bench.turn(to_partition(starts[0]).message, id="first")
    # somebody else's instance has taken the other child's id
    bench.begin("quick", id="second", execution="other")
    orders = bench.turn(bench.purge(recursive=True)).eventless
    for order in orders:
        message = to_partition(order).message
        assert isinstance(message.body, PurgeInstance)
        assert message.body.recursive
        bench.turn(message, id=message.instance_id)
    assert set(bench.rows) == {"second"}
    assert set(bench.tombstones) == {"i1", "first"}


def test_the_same_id_can_be_used_again_after_a_purge() -> None:
    bench = Bench(quick)
    bench.begin("quick")
    bench.turn(bench.purge())
    bench.begin("quick", execution="x2")
    assert bench.rows["i1"].status == "COMPLETED"
    bench.turn(bench.purge())
    assert bench.tombstones["i1"].execution_id == "x2"

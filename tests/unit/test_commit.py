"""The commit plan: which turns share a transaction, what goes before and after, and that nothing is over the limits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from durabletask_azure.core.commit import Group, plan_groups, transactions
from durabletask_azure.core.messages import PurgeInstance
from durabletask_azure.core.outbox import to_instance
from durabletask_azure.core.rows import (
    DeleteInstance,
    DeleteSegments,
    OutboxRow,
    PutInstance,
    PutOutbox,
    PutSegment,
    RowWrite,
    write_rows,
    write_size,
)
from durabletask_azure.core.turn import Turn
from tests.unit.bench import Bench


async def waits(ctx: Any, value: Any) -> Any:
    return await ctx.wait_for_external_event("go")


async def counts(ctx: Any, value: Any) -> Any:
    ctx.continue_as_new(value)


def begun(bench: Bench, count: int, size: int = 10) -> list[Turn]:
    """Return one uncommitted turn each of ``count`` instances with inputs of ``size`` characters."""
    for index in range(count):
        bench.insert("waits", "x" * size, id=f"i{index}", execution=f"x{index}")
    return [
        bench.turn(bench.wake_up(f"i{index}"), id=f"i{index}", is_committed=False) for index in range(count)
    ]


def plan(turns: Sequence[Turn], **limits: Any) -> list[Group]:
    known: dict[str, Any] = {"rows_max": 98, "bytes_max": 4_000_000, "instances_max": 50, "keep_outbox": True}
    return plan_groups(turns, 7, **{**known, **limits})


def rows_of(group: Group) -> int:
    return sum(write_rows(write) for write in group.writes())


def test_turns_share_transactions_up_to_the_limit_of_instances() -> None:
    turns = begun(Bench(waits), 7)
    groups = plan(turns, instances_max=3)
    assert [len(group.turns) for group in groups] == [3, 3, 1]
    assert [turn for group in groups for turn in group.turns] == turns
    assert {group.n for group in groups} == {7}


def test_a_transaction_keeps_to_the_limit_of_rows() -> None:
    groups = plan(begun(Bench(waits), 7), rows_max=2)
    assert [rows_of(group) for group in groups] == [2, 2, 2, 1]


def test_a_transaction_keeps_to_the_limit_of_bytes() -> None:
    turns = begun(Bench(waits), 6, size=10_000)
    limit = 2 * max(sum(write_size(write) for write in turn.writes()) for turn in turns)
    groups = plan(turns, bytes_max=limit)
    assert [len(group.turns) for group in groups] == [2, 2, 2]
    assert all(sum(write_size(write) for write in group.writes()) <= limit for group in groups)


def test_nothing_to_commit_is_no_group() -> None:
    assert plan([]) == []


def test_writes_carry_the_etag_the_instance_has_when_they_are_made() -> None:
    bench = Bench(waits)
    (turn,) = begun(bench, 1)
    (group,) = plan([turn])
    turn.instance.etag = "later"
    (write,) = group.writes()
    assert isinstance(write, PutInstance)
    assert write.if_match == "later"
    bench.commit(turn)
    bench.turn(bench.terminated(), id="i0")
    gone = bench.turn(bench.purge(), id="i0", is_committed=False)
    gone.instance.etag = "last"
    first = plan([gone])[0].writes()[0]
    assert isinstance(first, DeleteInstance)
    assert first.if_match == "last"


def test_segments_that_fit_go_with_the_row_and_others_are_staged_before() -> None:
    bench = Bench(counts)
    bench.insert("counts", "x" * 5_000)
    turn = bench.turn(bench.wake_up(), is_committed=False)
    assert turn.segments
    (together,) = plan([turn])
    assert (together.staged, together.main) == ([], [*turn.segments])
    (apart,) = plan([turn], bytes_max=20_000)
    assert apart.staged == [[*turn.segments]]
    assert apart.writes() == turn.writes()


def eventless(turn: Turn, count: int, size: int) -> Turn:
    turn.eventless += tuple(
        to_instance("other" + "y" * size, PurgeInstance(), message_id=f"m{index}", partitions=1)
        for index in range(count)
    )
    return turn


def test_messages_without_an_event_are_kept_in_outbox_rows() -> None:
    turns = [eventless(turn, 3, 10) for turn in begun(Bench(waits), 5)]
    groups = plan(turns, rows_max=5)
    rows = [row for group in groups for row in group.outbox]
    assert len({(row.n, row.index) for row in rows}) == 5
    assert [rows_of(group) for group in groups] == [4, 4, 2]
    for group in groups:
        stored = [write.row for write in group.writes() if isinstance(write, PutOutbox)]
        assert stored == group.outbox
        assert [out for row in stored for out in row.messages] == [
            o for t in group.turns for o in t.eventless
        ]
    again = plan(turns, rows_max=5, first=len(groups))
    assert not {row.index for row in rows} & {row.index for group in again for row in group.outbox}


def test_many_messages_take_several_outbox_rows() -> None:
    (turn,) = begun(Bench(waits), 1)
    eventless(turn, 5, 100_000)
    (group,) = plan([turn])
    assert len(group.outbox) == 5
    assert [row.index for row in group.outbox] == sorted({row.index for row in group.outbox})
    (none,) = plan([turn], keep_outbox=False)
    assert none.outbox == []
    assert none.sends == [*turn.outbound, *turn.eventless]


def test_the_sends_of_a_group_are_in_the_order_of_its_turns() -> None:
    async def timers(ctx: Any, value: Any) -> None:
        ctx.create_timer(timedelta(seconds=5))
        await ctx.call_activity("work")

    bench = Bench(timers)
    for index in range(2):
        bench.insert("timers", id=f"i{index}", execution=f"x{index}")
    turns = [
        eventless(bench.turn(bench.wake_up(f"i{index}"), id=f"i{index}", is_committed=False), 1, 1)
        for index in range(2)
    ]
    (group,) = plan(turns)
    assert group.sends == [out for turn in turns for out in (*turn.outbound, *turn.eventless)]
    assert len(group.sends) == 6


def test_a_long_deletion_is_cut_into_pieces() -> None:
    (turn,) = begun(Bench(waits), 1)
    turn.cleanup += (DeleteSegments("i0", "x", 5, 230),)
    (group,) = plan([turn], rows_max=100)
    pieces = [write for part in group.cleanup for write in part]
    assert [(piece.first, piece.count) for piece in pieces if isinstance(piece, DeleteSegments)] == [
        (5, 100),
        (105, 100),
        (205, 30),
    ]
    assert all(sum(write_rows(write) for write in part) <= 100 for part in group.cleanup)


def test_transactions_keep_order_and_limits() -> None:
    writes: list[RowWrite] = [PutSegment("i", "x", index, b"z" * 1_000) for index in range(5)]
    parts = transactions(writes, rows_max=2, bytes_max=1_000_000)
    assert [len(part) for part in parts] == [2, 2, 1]
    assert [write for part in parts for write in part] == writes
    assert [len(part) for part in transactions(writes, rows_max=9, bytes_max=7_000)] == [2, 2, 1]
    assert [len(part) for part in transactions(writes, rows_max=9, bytes_max=1)] == [1] * 5
    assert transactions([], rows_max=1, bytes_max=1) == []


def test_an_outbox_row_survives_storage() -> None:
    (turn,) = begun(Bench(waits), 1)
    row = OutboxRow(n=1, index=2, messages=tuple(eventless(turn, 2, 1).eventless), unsent=("a",))
    assert msgspec.json.decode(msgspec.json.encode(row), type=OutboxRow) == row


def test_a_hub_with_one_transaction_for_everything_commits_a_batch_as_one_group() -> None:
    turns = begun(Bench(waits), 3)
    (group,) = plan(turns, bytes_max=None, keep_outbox=False, instances_max=1_000)

    assert group.turns == turns
    assert group.writes() == [write for turn in turns for write in turn.writes()]
    assert group.sends == [out for turn in turns for out in turn.outbound]
    assert not group.staged
    assert not group.cleanup
    assert plan([], bytes_max=None, keep_outbox=False) == []
    assert len(plan(turns, bytes_max=None, keep_outbox=False, instances_max=2)) == 2

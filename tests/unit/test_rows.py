"""Keys and sizes of rows, as commits are planned by them."""

from __future__ import annotations

import msgspec
import pytest

from durabletask_azure.core.rows import (
    DeleteInstance,
    DeleteOutbox,
    DeleteSegments,
    DeleteTombstone,
    OutboxRow,
    PutInstance,
    PutOutbox,
    PutSegment,
    PutTombstone,
    RowWrite,
    Tombstone,
    row_key,
    write_rows,
    write_size,
)
from tests.unit.bench import T0, Bench

ROW = Bench().insert("flow", "x" * 500)
TOMBSTONE = Tombstone(instance_id="i1", execution_id="x1", expires_at=T0)


@pytest.mark.parametrize(
    ("write", "key"),
    [
        (PutInstance(ROW), "i!i1"),
        (DeleteInstance("i1", "e"), "i!i1"),
        (PutSegment("i1", "x1", 3, b""), "h!i1!x1!3"),
        (DeleteSegments("i1", "x1", 3, 2), "h!i1!x1!3"),
        (PutOutbox(OutboxRow(n=4, index=5)), "o!4!5"),
        (DeleteOutbox(4, 5), "o!4!5"),
        (PutTombstone(TOMBSTONE), "t!i1"),
        (DeleteTombstone("i1"), "t!i1"),
    ],
)
def test_each_write_names_its_row(write: RowWrite, key: str) -> None:
    assert row_key(write) == key
    assert write_rows(write) == (2 if isinstance(write, DeleteSegments) else 1)
    assert write_size(write) > 0


def test_a_size_is_above_what_the_row_takes_as_utf16() -> None:
    row = msgspec.structs.replace(ROW, tail=b"y" * 1_000)
    assert write_size(PutInstance(row)) > 2 * (500 + 1_000)
    assert write_size(PutSegment("i", "x", 0, b"z" * 900)) > 1_800
    big = OutboxRow(n=1, index=1, unsent=tuple("name" * 10 for _ in range(10)))
    assert write_size(PutOutbox(big)) > 800
    remembering = msgspec.structs.replace(TOMBSTONE, seen=tuple("id" * 16 for _ in range(1_000)))
    assert write_size(PutTombstone(remembering)) > 2 * 32_000


def test_an_instance_row_survives_storage() -> None:
    for value in (ROW, TOMBSTONE):
        assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value

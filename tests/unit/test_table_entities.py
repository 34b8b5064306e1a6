"""Rows as entities: whatever a row holds comes back, and what the service would refuse is refused first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from durabletask_azure.adapters.tables import entities
from durabletask_azure.adapters.tables.entities import Entity, Row
from durabletask_azure.adapters.tables.writing import is_etag, lock_step, steps
from durabletask_azure.core.rows import (
    DeleteInstance,
    DeleteOutbox,
    DeleteSegments,
    DeleteTombstone,
    InstanceRow,
    LockRow,
    OutboxRow,
    PutInstance,
    PutOutbox,
    PutSegment,
    PutTombstone,
    Tombstone,
)
from durabletask_azure.errors import CommitRefusedError, PartitionLostError
from tests.contract.builders import NOON, after, instance

ETAG = "W/\"datetime'2026-11-24T12%3A11%3A39.6292264Z'\""
KIB = 1024


def read_back(entity: Entity) -> Row:
    return Row({name: value for name, value in entity.items() if not isinstance(value, tuple)}, ETAG, None)


def checked(row: InstanceRow) -> int:
    return entities.check_entity({"PartitionKey": "p000", **entities.instance_entity(row)}, "i!i")


@pytest.mark.parametrize("length", [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 128 * KIB, 500_000])
def test_a_tail_of_any_length_is_read_as_it_was_written(length: int) -> None:
    row = instance("i", tail=bytes(range(256)) * (length // 256) + b"x" * (length % 256), output="o" * length)

    entity = entities.instance_entity(row)

    assert all(len(value) <= 64 * KIB for value in entity.values() if isinstance(value, bytes))
    assert ("more" in entity) == (length > 64 * KIB - 300)
    assert entities.decode_instance(read_back(entity)) == row
    assert entities.decode_instance(read_back(entity), with_tail=False) == msgspec.structs.replace(
        row, tail=b""
    )


def test_an_instance_can_be_queried_by_what_a_filter_asks_for() -> None:
    row = instance("i", completed_at=after(1), due_at=after(2), reason="why", version="2")

    entity = entities.instance_entity(row)

    assert entity["name"] == "order"
    assert entity["status"] == "RUNNING"
    assert entity["has_reason"] is True
    assert (entity["has_version"], entity["version"]) == (True, "2")
    assert entity["created_at"][0] == "2026-01-01T12:00:00.123456Z"
    assert entity["due_at"][0] == "2026-01-01T12:00:02.123456Z"
    assert "version" not in entities.instance_entity(instance("i"))
    assert "instance_id" not in entity
    assert entities.instance_entity(instance("🎉" * 500))["instance_id"].decode() == "🎉" * 500


@pytest.mark.parametrize(
    ("moment", "stored"),
    [
        (datetime(1, 1, 1, tzinfo=UTC), "1601-01-01T00:00:00.000000Z"),
        (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999999Z"),
        (NOON.astimezone(tz=None), "2026-01-01T12:00:00.123456Z"),
    ],
)
def test_times_to_query_by_are_ones_the_service_knows(moment: datetime, stored: str) -> None:
    row = instance("i", due_at=moment)

    entity = entities.instance_entity(row)

    assert entity["due_at"][0] == stored
    assert entities.decode_instance(read_back(entity)) == row


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("x" * 32_767, True),
        ("x" * 32_768, True),
        ("x" * 32_769, False),
        ("🎉" * 16_384, True),
        ("🎉" * 16_384 + "x", False),
    ],
)
def test_a_string_is_measured_in_utf_16_units(text: str, fits: bool) -> None:
    row = instance("i", version=text)
    if fits:
        assert checked(row) > len(text)
        return
    with pytest.raises(CommitRefusedError, match=r"'version' has 32,769 UTF-16 units") as refused:
        checked(row)
    assert (refused.value.row_key, refused.value.conflict) == ("i!i", False)


def test_a_row_of_more_than_a_mebibyte_is_refused_by_name() -> None:
    assert checked(instance("i", tail=b"x" * (1024 * KIB - 2_000))) > 1024 * KIB

    with pytest.raises(CommitRefusedError, match="more than the 1,048,576 of an entity") as refused:
        checked(instance("i", tail=b"x" * 1024 * KIB))

    assert (refused.value.row_key, refused.value.conflict) == ("i!i", False)


def test_of_several_writes_on_one_row_only_the_last_is_sent() -> None:
    made = steps(
        "p000",
        [
            PutSegment("i", "e", 0, b"first"),
            PutOutbox(OutboxRow(n=1, index=0)),
            PutOutbox(OutboxRow(n=2, index=0)),
            PutTombstone(Tombstone(instance_id="i", execution_id="e", expires_at=NOON)),
            DeleteOutbox(1, 0),
            DeleteTombstone("i"),
            PutSegment("i", "e", 0, b"second"),
            DeleteSegments("i", "e", 1, 2),
        ],
    )

    kinds: list[Any] = [(step.kind, step.entity["RowKey"][0], step.entity.get("body")) for step in made]
    assert kinds[0][:2] == ("create", "o")
    assert kinds[1:] == [
        ("delete", "t", None),
        ("upsert", "h", b"second"),
        ("delete", "h", None),
        ("delete", "h", None),
    ]
    assert [step.may_be_missing for step in made] == [False, True, False, True, True]


@pytest.mark.parametrize("etag", ["", "0", "*", "never given", 'W/"\n"'])
def test_what_cannot_be_an_etag_is_refused_without_asking(etag: str) -> None:
    assert not is_etag(etag)
    with pytest.raises(PartitionLostError):
        lock_step("p000", LockRow(), etag)
    for write in (PutInstance(instance("i"), etag), DeleteInstance("i", etag)):
        with pytest.raises(CommitRefusedError) as refused:
            steps("p000", [write])
        assert (refused.value.row_key, refused.value.conflict) == ("i!i", True)
    assert lock_step("p000", LockRow(), ETAG).if_match == ETAG


def test_a_row_without_a_stored_form_is_refused_by_name() -> None:
    with pytest.raises(CommitRefusedError) as refused:
        steps("p000", [PutInstance(instance("i", output="\ud800"))])
    assert (refused.value.row_key, refused.value.conflict) == ("i!i", False)


def test_a_tombstone_can_be_queried_by_its_end() -> None:
    stone = Tombstone(instance_id="i", execution_id="e", expires_at=NOON + timedelta(days=1))

    (step,) = steps("p000", [PutTombstone(stone)])

    assert step.entity["expires_at"][0] == "2026-01-02T12:00:00.123456Z"
    assert entities.decode_tombstone(read_back(step.entity)) == stone


@pytest.mark.parametrize(
    "odd", [{"body": "text"}, {"body": 7}, {"body1": "text", "more": True}, {"body1": 0.5, "more": True}]
)
def test_a_value_that_is_not_binary_cannot_be_read(odd: dict[str, Any]) -> None:
    entity = entities.instance_entity(instance("i"))

    with pytest.raises(msgspec.DecodeError, match=r"the property 'body1?' is not binary but"):
        entities.decode_instance(entities.Row({**entity, **odd}, "etag", None))

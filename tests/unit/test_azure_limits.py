"""The largest that the package ever makes of a kind fits into what Azure takes; docs/azure.md has all limits."""

from __future__ import annotations

from urllib.parse import quote

import msgspec
import pytest

from durabletask_azure.adapters.servicebus.bodies import packed, task_parcels
from durabletask_azure.adapters.tables.entities import (
    ENTITY_BYTES_MAX,
    check_entity,
    entity_of,
    instance_entity,
)
from durabletask_azure.adapters.tables.keys import LOCK, segment_key, tombstone_key
from durabletask_azure.adapters.tables.queries import instance_filter
from durabletask_azure.adapters.tables.writing import lock_step
from durabletask_azure.core.history import EventRaisedEvent, RuntimeStatus, Sender
from durabletask_azure.core.messages import ActivityTask, Message, ToActivities, ToPartition
from durabletask_azure.core.payloads import is_name, payload_name
from durabletask_azure.core.rows import LockRow, PastExecution, Tombstone
from durabletask_azure.ports import InstanceFilter
from durabletask_azure.settings import Settings
from tests.contract.builders import NOON, after, instance

KIB = 1024
EMOJI = "🎉"
SETTINGS = Settings()
LONGEST_ID = EMOJI * SETTINGS.instance_id_chars_max
LONGEST_NAME = EMOJI * SETTINGS.name_chars_max
MESSAGE_BYTES_MAX = 256 * KIB
"""Of Service Bus Standard, properties included."""
PROPERTIES_MAX = 252
BLOB_NAME_CHARS_MAX = 1_024
BLOB_NAME_PARTS_MAX = 254
ETAG = "W/\"datetime'2026-11-24T12%3A11%3A39.6292264Z'\""


def test_a_lock_row_with_all_it_may_name_is_an_entity() -> None:
    lock = LockRow(
        owner="w" * 200,
        commit_id="c" * 64,
        unsent=tuple(f"{LONGEST_ID[:-4]}{number:04d}" for number in range(SETTINGS.unsent_names_max)),
        unsettled=tuple(f"{number:0128d}" for number in range(SETTINGS.unsettled_max)),
        attempts=tuple((f"{number:0128d}", 3) for number in range(SETTINGS.receive_messages_max)),
    )

    step = lock_step("p000", lock, ETAG)
    rings = {"ended": b"r" * 4 * KIB, "changed": b"r" * 4 * KIB}

    assert check_entity(step.entity | rings, LOCK) < 2 * ENTITY_BYTES_MAX


def test_a_tombstone_with_all_it_may_remember_is_an_entity() -> None:
    tombstone = Tombstone(
        instance_id=LONGEST_ID,
        execution_id="e" * 64,
        expires_at=NOON,
        leftovers=tuple(PastExecution("e" * 64, 9_999, 9) for _ in range(SETTINGS.executions_kept)),
        seen=tuple(f"{LONGEST_NAME[:-4]}{number:04d}" for number in range(200)),
    )
    key = tombstone_key(LONGEST_ID)

    assert check_entity({"RowKey": key, **entity_of(tombstone)}, key) > 0


def test_an_instance_with_all_values_as_large_as_they_may_be_inline_is_an_entity() -> None:
    value = "x" * SETTINGS.payload_inline_bytes_max
    row = msgspec.structs.replace(
        instance(LONGEST_ID),
        name=LONGEST_NAME,
        version=LONGEST_NAME,
        input=value,
        output=value,
        custom_status=value,
        tags=value,
        status=RuntimeStatus.COMPLETED,
        completed_at=NOON,
        due_at=NOON,
        reason="r" * KIB,
        tail=b"x" * SETTINGS.history_inline_bytes_max,
        past=tuple(PastExecution("e" * 64, 9_999, 9) for _ in range(SETTINGS.executions_kept)),
    )
    entity = instance_entity(row)

    assert check_entity(entity, entity["RowKey"]) > 0


def test_no_entity_has_more_properties_than_the_service_takes() -> None:
    half = ENTITY_BYTES_MAX // 2
    entity = instance_entity(
        instance(LONGEST_ID, output="x" * half, tail=b"x" * (half - 8 * KIB), version="1")
    )

    assert check_entity(entity, entity["RowKey"]) > 0
    assert len(entity) < PROPERTIES_MAX / 4


def test_messages_with_all_values_as_large_as_they_may_be_inline_fit_into_one_of_service_bus() -> None:
    value = '"' + EMOJI * (SETTINGS.payload_inline_bytes_max // 4 - 1) + '"'
    task = ActivityTask(
        id="t" * 128,
        instance_id=LONGEST_ID,
        execution_id="e" * 64,
        task_id=1,
        name=LONGEST_NAME,
        version=LONGEST_NAME,
        input=value,
        tags=value,
    )
    event = EventRaisedEvent(
        timestamp=NOON, name=LONGEST_NAME, input=value, source_id=LONGEST_NAME, sender=Sender(0, 9)
    )
    message = ToPartition(partition=0, message=Message(id="m" * 128, instance_id=LONGEST_ID, body=event))
    packs = packed([message] * 200, events_max=SETTINGS.pack_events_max, bytes_max=SETTINGS.pack_bytes_max)

    for parcel in [*task_parcels([ToActivities(task=task)]), *packs]:
        assert parcel.size < MESSAGE_BYTES_MAX / 2


@pytest.mark.parametrize("instance_id", ["a", LONGEST_ID, "." * 500, "/" * 500])
def test_names_of_values_are_names_of_blobs(instance_id: str) -> None:
    name = payload_name(127, instance_id, "e" * 64, b"value")

    assert is_name(name)
    assert len(name) <= BLOB_NAME_CHARS_MAX
    assert name.count("/") < BLOB_NAME_PARTS_MAX
    assert not name.endswith((".", "/"))
    assert name == quote(name), "it stands in an address as it is"


@pytest.mark.parametrize("instance_id", ["a", LONGEST_ID, "/\\#?%\x00\t\x7f\x9f" * 50, "." * 500, "'" * 500])
def test_keys_have_no_character_that_tables_forbid(instance_id: str) -> None:
    for key in (tombstone_key(instance_id), segment_key(instance_id, "e" * 64, 9_999_999)):
        assert len(key) <= 512
        assert not set(key) & set("/\\#?%'")
        assert key.isascii()
        assert key.isprintable()


def test_the_longest_filter_is_short_enough_for_an_address() -> None:
    where = InstanceFilter(
        id_prefix=LONGEST_ID,
        names=[EMOJI * 120 + str(number) for number in range(4)],
        versions=[EMOJI * 120 + str(number) for number in range(3)],
        created_from=NOON,
        created_to=after(1),
        updated_from=NOON,
    )
    made = instance_filter(0, where)
    text = made.text + "".join(f"'{value}'" for value in made.values.values())

    assert len(made.values) > 10
    # No figure of Azure's is known: the bound is our own.
    assert len(quote(text)) < 16 * KIB

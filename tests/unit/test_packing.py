"""How messages to partitions become broker messages: packs, their ids and sizes, and times that are never early."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from durabletask_azure.adapters.servicebus.bodies import packed, task_parcels
from durabletask_azure.core.history import EventRaisedEvent
from durabletask_azure.core.messages import (
    ActivityTask,
    Message,
    ToActivities,
    ToPartition,
    decode_messages,
    decode_task,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KIB = 1024


def message(
    message_id: str, *, partition: int = 0, text: str = "", deliver_at: datetime | None = None
) -> ToPartition:
    body = EventRaisedEvent(timestamp=NOON, name="e", input=f'"{text}"')
    return ToPartition(
        partition=partition, message=Message(id=message_id, instance_id="i", body=body), deliver_at=deliver_at
    )


@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, 3000)), max_size=30),
    st.integers(1, 5),
    st.integers(500, 4000),
)
def test_packs_carry_everything_in_order_within_their_limits(
    shapes: list[tuple[int, bool, int]], events_max: int, bytes_max: int
) -> None:
    sent = [
        message(f"{n}", partition=partition, text="x" * size, deliver_at=NOON if is_timed else None)
        for n, (partition, is_timed, size) in enumerate(shapes)
    ]

    parcels = packed(sent, events_max=events_max, bytes_max=bytes_max)

    carried = [one for parcel in parcels for one in decode_messages(parcel.body)]
    assert carried == [out.message for out in sent]
    for parcel in parcels:
        inside = decode_messages(parcel.body)
        assert parcel.events == len(inside) <= events_max
        assert len(inside) == 1 or len(parcel.body) <= bytes_max + 2
        assert parcel.deliver_at is None or len(inside) == 1
        assert {f"p{out.partition:03d}" for out in sent if out.message in inside} == {parcel.session}


def test_the_same_pack_has_the_same_id_and_another_has_another() -> None:
    def id_of(*ids: str) -> str:
        (parcel,) = packed([message(one) for one in ids], events_max=9, bytes_max=KIB * 60)
        return parcel.id

    assert id_of("a", "b") == id_of("a", "b")
    assert len({id_of("a", "b"), id_of("b", "a"), id_of("a"), id_of("a", "b", "c"), id_of("ab")}) == 5
    assert id_of("a") == "a"


def test_an_id_too_long_for_service_bus_is_replaced_by_one_made_from_it() -> None:
    (first, other) = packed([message("x" * 129), message("x" * 130)], events_max=1, bytes_max=KIB)
    (longest,) = packed([message("x" * 128)], events_max=1, bytes_max=KIB)

    assert len(longest.id) == 128
    assert len(first.id) <= 128
    assert first.id != other.id
    assert decode_messages(first.body)[0].id == "x" * 129


@given(st.integers(0, 999_999))
def test_a_time_is_rounded_to_the_next_millisecond_and_never_early(microsecond: int) -> None:
    at = NOON.replace(microsecond=microsecond)

    (parcel,) = packed([message("m", deliver_at=at)], events_max=9, bytes_max=KIB)

    assert parcel.deliver_at is not None
    assert timedelta(0) <= parcel.deliver_at - at < timedelta(milliseconds=1)
    assert parcel.deliver_at.microsecond % 1000 == 0


def test_a_task_goes_alone_and_without_a_session() -> None:
    task = ActivityTask(id="t", instance_id="i", execution_id="e", task_id=1, name="ship", input='"☃"')

    parcels = task_parcels([ToActivities(task=task)] * 2)

    assert [decode_task(parcel.body) for parcel in parcels] == [task, task]
    assert {(parcel.id, parcel.session, parcel.deliver_at) for parcel in parcels} == {("t", None, None)}

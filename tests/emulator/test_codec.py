"""The codec: what is encoded comes back, and whatever comes is decoded within bounds or refused."""

from __future__ import annotations

import math
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durabletask_azure.emulator.amqp.decode import decode, skip
from durabletask_azure.emulator.amqp.encode import encode
from durabletask_azure.emulator.amqp.message import (
    BATCH_FORMAT,
    Content,
    batch_parts,
    build_delivery,
    change_properties,
    read_content,
    read_request,
)
from durabletask_azure.emulator.amqp.performatives import Attach, Transfer, decode_performative
from durabletask_azure.emulator.amqp.types import (
    Array,
    DecodeError,
    Described,
    Int,
    Symbol,
    Timestamp,
    UInt,
    ULong,
    Value,
)
from tests.emulator.world import body_of, message, properties_of_content

simple: st.SearchStrategy[Value] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**32 - 1).map(UInt),
    st.integers(0, 2**64 - 1).map(ULong),
    st.integers(-(2**31), 2**31 - 1).map(Int),
    st.integers(-(2**63), 2**63 - 1).map(Timestamp),
    st.floats(allow_nan=False),
    st.text(max_size=300),
    st.text(st.characters(max_codepoint=127), max_size=300).map(Symbol),
    st.binary(max_size=300),
    st.uuids(),
)


def as_map(items: dict[str, Value]) -> Value:
    widened: dict[Value, Value] = dict(items.items())
    return widened


def deeper(inner: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    lists: st.SearchStrategy[Value] = st.lists(inner, max_size=8)
    maps: st.SearchStrategy[Value] = st.dictionaries(st.text(max_size=20), inner, max_size=8).map(as_map)
    described: st.SearchStrategy[Value] = st.builds(Described, st.integers(0, 300).map(ULong), inner)
    return st.one_of(lists, maps, described)


values = st.recursive(simple, deeper, max_leaves=30)


@given(values)
def test_a_value_comes_back_and_skip_finds_its_end(value: Value) -> None:
    data = encode(value)
    assert decode(data + b"more") == (value, len(data))
    assert skip(data + b"more", 0) == len(data)


@given(
    st.one_of(
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=300),
        st.lists(st.uuids(), max_size=20),
        st.lists(st.text(max_size=20), max_size=20),
        st.lists(st.binary(max_size=20), max_size=20),
        st.lists(st.floats(allow_nan=False), max_size=20),
    )
)
def test_an_array_comes_back(items: list[int] | list[UUID] | list[str] | list[bytes] | list[float]) -> None:
    array = Array(tuple(items))
    assert decode(encode(array))[0] == array


@given(st.binary(max_size=400))
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    try:
        _, end = decode(data)
    except DecodeError:
        return
    assert end <= len(data)


@given(values, st.data())
def test_a_value_cut_short_is_refused(value: Value, data: st.DataObject) -> None:
    encoded = encode(value)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(DecodeError):
        decode(encoded[:cut])


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\xd0\xff\xff\xff\xff\xff\xff\xff\xff", "ends too early"),
        (b"\xd0\x00\x00\x00\x05\x7f\xff\xff\xff\x40", "more than 65536"),
        (b"\xf0\x00\x00\x00\x05\x00\xff\xff\xff\x40", "more than 65536"),
        (b"\xc1\x02\x01\x40", "a key without a value"),
        (b"\xc1\x04\x02\x45\x45\x45", "is not as long"),
        (b"\xc1\x03\x02\x45\x45", "a key of a map"),
        (b"\x73\x00\x11\x00\x00", "not a value"),
        (b"\x56\x02", "neither 0 nor 1"),
        (b"\xa1\x02\xff\xff", "not UTF-8"),
        (b"\x3f", "no type"),
        (b"\xe0\x05\x02\x00\x53\x10\x00", "no array"),
        (b"\xc0\x04\x40" * 40, "more items than bytes"),
        (b"\x00" * 100, "nested deeper"),
    ],
)
def test_what_is_refused_says_why(data: bytes, what: str) -> None:
    with pytest.raises(DecodeError, match=what):
        decode(data)


def test_lists_nested_too_deep_are_refused() -> None:
    value: list[Value] = []
    for _ in range(33):
        value = [value]
    with pytest.raises(DecodeError, match="nested deeper"):
        decode(encode(value))


def test_integers_that_do_not_fit_or_mixed_arrays_are_not_encoded() -> None:
    with pytest.raises(TypeError, match="one simple type"):
        encode(Array((1, "a")))


def test_a_performative_with_fields_of_the_wrong_type_is_refused() -> None:
    nothing: list[Value] = [None] * 3
    wrong: Value = Described(ULong(0x12), ["name", "not a handle", True])
    with pytest.raises(DecodeError, match="handle of Attach"):
        decode_performative(encode(wrong))
    lacking: Value = Described(ULong(0x12), ["name"])
    with pytest.raises(DecodeError, match="lacks a field"):
        decode_performative(encode(lacking))
    long: Value = Described(ULong(0x17), nothing)
    with pytest.raises(DecodeError, match="too many"):
        decode_performative(encode(long))


def test_a_performative_may_be_named_by_its_symbol() -> None:
    value: Value = Described(Symbol("amqp:attach:list"), ["n", UInt(3), True])
    attach, _ = decode_performative(encode(value))
    assert isinstance(attach, Attach)
    assert (attach.name, attach.handle, attach.role) == ("n", 3, True)


def test_what_follows_a_transfer_is_its_payload() -> None:
    body = encode(Described(ULong(0x14), [UInt(1), UInt(2)])) + b"payload"
    transfer, end = decode_performative(body)
    assert isinstance(transfer, Transfer)
    assert body[end:] == b"payload"


def test_a_message_keeps_the_encoding_of_what_the_broker_does_not_touch() -> None:
    content = read_content(message("body", message_id="m", properties={"a": 1, "b": "x"}))
    assert properties_of_content(content) == {"a": 1, "b": "x"}
    changed = change_properties(content, {"b": 2.5, "c": None})
    assert properties_of_content(changed) == {"a": 1, "b": 2.5, "c": None}
    assert (body_of(changed), changed.message_id) == ("body", "m")
    delivered = read_content(build_delivery(changed, 3, [], b"t" * 16))
    assert delivered.bare == changed.bare


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for read in (read_content, batch_parts, read_request):
        try:
            read(data)
        except DecodeError:
            continue


def test_the_parts_of_a_batch_are_messages() -> None:
    parts = [message("a"), message("b")]
    batch = b"".join([b"\x00\x53\x75" + encode(part) for part in parts])
    assert batch_parts(batch) == parts
    assert BATCH_FORMAT == 0x80013700
    assert isinstance(read_content(parts[0]), Content)


def test_special_numbers_come_back() -> None:
    assert decode(encode(math.inf))[0] == math.inf
    nan, _ = decode(encode(math.nan))
    assert isinstance(nan, float)
    assert math.isnan(nan)

"""What is stored is read with one kind of error, and a damaged value does not hide its neighbours."""

from __future__ import annotations

import msgspec
import pytest

from durabletask_azure.core.stored_form import read_all, reader_of

read = reader_of(dict[str, int])


def test_what_was_stored_is_read() -> None:
    assert read(b'{"a":1}') == {"a": 1}


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b'{"a":"\xff"}', b"[" * 100_000, b'{"a":"1"}', b"null"])
def test_bytes_that_are_something_else_are_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read(data)


def test_all_that_can_be_read_is_read_and_the_rest_is_named() -> None:
    found = [("first", b'{"a":1}'), ("bad", b"\xff"), ("worse", b"{"), ("last", b'{"b":2}')]
    assert read_all(read, found) == ([{"a": 1}, {"b": 2}], ["bad", "worse"])

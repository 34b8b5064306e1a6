"""What spills, under which name, and how it is found again."""

from __future__ import annotations

import pytest

from durabletask_azure.core.payloads import (
    BlobRef,
    PayloadWriter,
    check_name,
    check_value,
    is_name,
    payload_name,
    payload_prefix,
    resolve,
)
from durabletask_azure.errors import ConfigurationError, PayloadMissingError, PayloadTooLargeError


def store(text: str | None, writer: PayloadWriter) -> object:
    return writer.store(text, instance_id="i1", execution_id="x1", what="the input")


@pytest.mark.parametrize("letter", ["a", "é", "漢", "🎈"])
def test_b111_the_limits_count_bytes_of_utf8(letter: str) -> None:
    width = len(letter.encode())
    writer = PayloadWriter(partitions=1, inline_bytes_max=width * 10, bytes_max=width * 20)
    assert store(letter * 10, writer) == letter * 10
    ref = store(letter * 11, writer)
    assert isinstance(ref, BlobRef)
    assert (ref.size, writer.uploads[ref.name].decode()) == (width * 11, letter * 11)
    assert isinstance(store(letter * 20, writer), BlobRef)
    with pytest.raises(
        PayloadTooLargeError, match=f"the input of 'i1' is {width * 21} bytes; at most {width * 20}"
    ):
        store(letter * 21, writer)


def test_no_value_is_no_value() -> None:
    writer = PayloadWriter(partitions=1, inline_bytes_max=1, bytes_max=1)
    assert store(None, writer) is None
    assert resolve(None, {}) is None


def test_text_that_no_utf8_can_hold_is_an_error() -> None:
    writer = PayloadWriter(partitions=1, inline_bytes_max=100, bytes_max=100)
    with pytest.raises(UnicodeEncodeError):
        store("\ud800", writer)


def test_names_depend_on_instance_execution_and_content() -> None:
    names = {
        payload_name(0, instance, execution, text)
        for instance in ("i1", "I1", "i\ud800")
        for execution in ("x1", "x2")
        for text in (b"a", b"b")
    }
    assert len(names) == 12
    assert payload_name(7, "i1", "x1", b"a").startswith(payload_prefix(7, "i1") + "x1/")
    assert payload_name(7, "i1", "x1", b"a") == payload_name(7, "i1", "x1", b"a")


def test_b114_text_that_looks_like_a_reference_is_text() -> None:
    ref = BlobRef(name="p000/x/y/z", size=1)
    loaded = {ref.name: "value"}
    for text in ('{"kind":"blob","name":"p000/x/y/z","size":1}', "https://example.org/x", ref.name):
        assert resolve(text, loaded) == text
    assert resolve(ref, loaded) == "value"
    with pytest.raises(PayloadMissingError, match="p000/x/y/z"):
        resolve(ref, {})


def test_a_value_is_known_by_size_and_content() -> None:
    name = payload_name(7, "i1", "x1", b"value")
    assert check_value(name, 5, b"value") == b"value"
    with pytest.raises(PayloadMissingError, match="4 bytes instead of 5"):
        check_value(name, 5, b"valu")
    with pytest.raises(PayloadMissingError, match="damaged"):
        check_value(name, 5, b"valuE")


@pytest.mark.parametrize(
    "name", ["", "x", "p007/a/b", "p007/a/b/c.", "p007/../b/c", "p007/a/b/c\n", "P007/a/b/c"]
)
def test_a_name_of_another_form_is_refused(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(ConfigurationError, match="no name of a payload"):
        check_name(name)


def test_a_name_that_was_made_is_one() -> None:
    for execution in ("x", "-", "x" * 200, "0f.a_b-c"):
        check_name(payload_name(128, "i1", execution, b""))

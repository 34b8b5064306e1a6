"""Payload codecs: text in, an envelope that names the codec out, and back."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
import pytest

from durabletask_azure.core.actions import Failed, ScheduleTask
from durabletask_azure.core.codec import DataConverter, JsonDataConverter, rebuilt_as_declared
from durabletask_azure.core.envelope import encoded_by, open_envelope, put_in_envelope
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import EventRaisedEvent, TaskCompletedEvent, TaskFailedEvent
from durabletask_azure.core.payload_codec import NO_CODECS, PayloadCodecs, checked_codecs
from durabletask_azure.core.replay import RuntimeOptions, execute
from durabletask_azure.errors import (
    ArgumentTypeError,
    ConfigurationError,
    PayloadCodecError,
    SerializationError,
    TaskFailedError,
)
from tests.unit.play import T0, Play


class Turning:
    """Adds a number to each byte."""

    def __init__(self, id: str, by: int = 1) -> None:
        self.id = id
        self._by = by

    def encode(self, data: bytes) -> bytes:
        return bytes((byte + self._by) % 256 for byte in data)

    def decode(self, data: bytes) -> bytes:
        return bytes((byte - self._by) % 256 for byte in data)


class Broken(Turning):
    def encode(self, data: bytes) -> bytes:
        raise ValueError(f"no room for {data!r}")

    decode = encode


FAILURE = FailureDetails(
    message="secret",
    error_type="shop.CardError",
    stack_trace="line 5: secret",
    inner_failure=FailureDetails(message="secret too", error_type="KeyError"),
    properties={"card": "secret"},
    is_non_retriable=True,
)


def test_text_comes_back_and_names_its_codec() -> None:
    codecs = PayloadCodecs(Turning("k1"))
    encoded = codecs.encode('{"a":"ü"}')
    assert encoded is not None
    assert encoded.startswith("~codec:k1:")
    assert encoded_by(encoded) == "k1"
    assert codecs.decode(encoded) == '{"a":"ü"}'
    assert codecs.encode(None) is None
    assert codecs.decode(None) is None


@pytest.mark.parametrize(
    "text", ['"~codec:k1:AAAA"', "~codec", "~codec:k1", "~codec:k 1:AAAA", "~codec:k1:<", "5"]
)
def test_what_no_codec_has_made_is_left_alone(text: str) -> None:
    assert PayloadCodecs(Turning("k1")).decode(text) == text
    assert NO_CODECS.encode(text) == text


LIKE_ENCODED = ("~codec:k1:AAAA", "~codec::", "~codec::~codec:k1:AAAA", "~codec:k1:")


@pytest.mark.parametrize("text", LIKE_ENCODED)
@pytest.mark.parametrize("codecs", [NO_CODECS, PayloadCodecs(Turning("k1"))], ids=["plain", "k1"])
def test_plain_text_that_looks_encoded_comes_back(codecs: PayloadCodecs, text: str) -> None:
    stored = codecs.encode(text)
    assert stored is not None
    assert stored != text
    assert codecs.decode(stored) == text
    assert codecs.readable(stored) == text
    assert codecs.can_decode(stored)
    assert codecs.decode(codecs.opened(stored)) == text
    failure = FailureDetails(message=text, error_type="E")
    kept = codecs.encode_failure(failure)
    assert kept.message != text
    assert codecs.decode_failure(kept) == failure


def test_older_values_are_read_with_the_codec_they_name() -> None:
    old, new = Turning("k1"), Turning("k2", 2)
    encoded = PayloadCodecs(old).encode("5")
    codecs = PayloadCodecs(new, [old])
    assert codecs.decode(encoded) == "5"
    assert encoded_by(codecs.encode("5") or "") == "k2"
    reading_only = PayloadCodecs(None, [old])
    assert reading_only.decode(encoded) == "5"
    assert reading_only.encode("5") == "5"


def test_a_codec_that_is_not_there_is_named() -> None:
    assert not NO_CODECS.can_decode("~codec:k1:AAAA")
    encoded = PayloadCodecs(Turning("k1")).encode("5")
    with pytest.raises(
        PayloadCodecError, match=r"codec 'k1', which this hub was not opened with \(it has none\)"
    ):
        NO_CODECS.decode(encoded)
    with pytest.raises(PayloadCodecError, match=r"codec 'k1', .* \(it has 'k2'\)"):
        PayloadCodecs(Turning("k2")).decode(encoded)
    with pytest.raises(SerializationError, match="codec 'k1', which this hub was not opened with"):
        JsonDataConverter().deserialize(encoded)
    assert NO_CODECS.readable(encoded) == encoded


@pytest.mark.parametrize("text", ["~codec:k1:AAA", put_in_envelope("k1", b"\xfe\xfe")])
def test_a_damaged_value_is_an_error(text: str) -> None:
    with pytest.raises(PayloadCodecError, match="codec 'k1' cannot decode a value"):
        PayloadCodecs(Turning("k1")).decode(text)
    with pytest.raises(ValueError, match="base64"):
        open_envelope("~codec:k1:AAA")


def test_a_codec_that_fails_is_an_error() -> None:
    with pytest.raises(PayloadCodecError, match="codec 'k1' cannot encode a value: ValueError: no room"):
        PayloadCodecs(Broken("k1")).encode("5")


def test_a_failure_keeps_only_its_class_readable() -> None:
    codecs = PayloadCodecs(Turning("k1"))
    encoded = codecs.encode_failure(FAILURE)
    assert encoded == FailureDetails(
        message=encoded.message, error_type="shop.CardError", is_non_retriable=True
    )
    assert encoded_by(encoded.message) == "k1"
    assert codecs.decode_failure(encoded) == FAILURE
    assert NO_CODECS.encode_failure(FAILURE) is FAILURE
    assert codecs.decode_failure(FAILURE) is FAILURE


def test_a_failure_is_never_lost_by_its_codec() -> None:
    encoded = PayloadCodecs(Broken("k1")).encode_failure(FAILURE)
    assert encoded.message == "details left out: the payload codec 'k1' failed with ValueError"
    assert (encoded.error_type, encoded.is_non_retriable) == ("shop.CardError", True)

    unread = NO_CODECS.readable_failure(PayloadCodecs(Turning("k1")).encode_failure(FAILURE))
    assert unread.error_type == "shop.CardError"
    assert unread.message.startswith(
        "its details cannot be read: a value was encoded with the payload codec 'k1'"
    )

    codecs = PayloadCodecs(Turning("k1"))
    no_failure = FailureDetails(message=codecs.encode("5") or "", error_type="E")
    assert codecs.readable_failure(no_failure).message.startswith("its details cannot be read: ")
    assert codecs.readable_failure(codecs.encode_failure(FAILURE)) == FAILURE


def test_a_converter_encodes_what_it_writes() -> None:
    inner = JsonDataConverter()
    assert NO_CODECS.converter(inner) is inner
    converter = PayloadCodecs(Turning("k1")).converter(inner)
    text = converter.serialize([1, 2])
    assert encoded_by(text or "") == "k1"
    assert converter.deserialize(text, list[int]) == [1, 2]
    assert converter.deserialize("[3]") == [3]
    assert converter.serialize(None) is None


class Words(DataConverter):
    """Any text, as it is; what is no text is returned as it is too, which is wrong."""

    def serialize(self, value: Any) -> Any:
        return value

    def deserialize(self, data: str | None, target_type: Any = None) -> Any:
        return data


@pytest.mark.parametrize("codecs", [NO_CODECS, PayloadCodecs(Turning("k1"))], ids=["plain", "k1"])
def test_the_text_of_a_converter_of_ones_own_may_look_encoded(codecs: PayloadCodecs) -> None:
    converter = codecs.converter(Words())
    for text in LIKE_ENCODED:
        assert converter.deserialize(converter.serialize(text)) == text
    assert converter.serialize(3) == 3  # whoever stores it says what is wrong


def test_a_converter_takes_the_annotations_that_the_inner_one_takes() -> None:
    inner = JsonDataConverter()
    converter = PayloadCodecs(Turning("k1")).converter(inner)
    for kind in (date, int):
        assert converter.can_reconstruct(kind) is inner.can_reconstruct(kind)
    assert converter.coerce("2026-01-02", date) == date(2026, 1, 2)
    assert rebuilt_as_declared(converter, converter.serialize(date(2026, 1, 2)), date) == date(2026, 1, 2)


def test_an_orchestrator_sees_values_and_failures_as_they_were() -> None:
    codecs = PayloadCodecs(Turning("k1"))
    seen: list[Any] = []

    async def flow(ctx: Any, word: str) -> None:
        ctx.set_custom_status(word)
        try:
            await ctx.call_activity("a", input=word)
        except TaskFailedError as error:
            seen.append(error.details)
            raise

    play = Play(flow, "hello", options=options(codecs))
    decision = play.start()
    (call,) = decision.actions
    assert isinstance(call, ScheduleTask)
    assert [codecs.decode(text) for text in (call.input, decision.custom_status)] == ['"hello"', '"hello"']
    play.turn(play.failed(1, codecs.encode_failure(FAILURE)))
    assert seen[0] == FAILURE
    assert encoded_by(play.failure.message) == "k1"
    assert codecs.decode_failure(play.failure).inner_failure == FAILURE


def test_what_cannot_be_decoded_ends_an_execution_without_asking_its_orchestrator() -> None:
    secret = PayloadCodecs(Turning("k1")).encode("5")

    async def flow(ctx: Any, value: Any) -> None:
        for _ in range(2):
            try:
                await ctx.call_activity("a")
                await ctx.wait_for_external_event("e")
            except Exception:  # whatever goes wrong, it tries the other way
                await ctx.call_activity("b")

    def completed(play: Play) -> TaskCompletedEvent:
        return TaskCompletedEvent(timestamp=T0, task_scheduled_id=1, result=secret)

    def raised(play: Play) -> EventRaisedEvent:
        return EventRaisedEvent(timestamp=T0, name="e", input=secret)

    def failed(play: Play) -> TaskFailedEvent:
        failure = PayloadCodecs(Turning("k1")).encode_failure(FAILURE)
        return TaskFailedEvent(timestamp=T0, task_scheduled_id=1, failure=failure)

    for arrives in (completed, raised, failed):
        play = Play(flow, options=options(PayloadCodecs(Turning("k2"))))
        play.start()
        play.turn(arrives(play))
        assert play.decision.actions == ()
        told = PayloadCodecs(Turning("k2")).decode_failure(play.failure)
        assert told.is_caused_by(PayloadCodecError)
        assert "codec 'k1', which this hub was not opened with" in told.message

    play = Play(flow)
    play.start()
    play.turn(play.completed(1), play.raised("e"))
    history = [msgspec.structs.replace(play.first, input=secret), *play.past[2:]]
    decision = execute(play.definition, history, [play.completed(2)], options=RuntimeOptions(), loaded={})
    assert isinstance(decision.completion, Failed)
    assert decision.completion.failure.is_caused_by(PayloadCodecError)


def test_what_cannot_be_encoded_ends_an_execution_whatever_its_orchestrator_does_about_it() -> None:
    async def call(ctx: Any, _: Any) -> None:
        try:
            await ctx.call_activity("a", input="secret")
        except Exception:
            await ctx.call_activity("b")

    async def status(ctx: Any, _: Any) -> None:
        try:
            ctx.set_custom_status("secret")
        except Exception:
            await ctx.call_activity("b")

    for flow in (call, status):
        play = Play(flow, options=options(PayloadCodecs(Broken("k1"))))
        play.start()
        assert play.decision.actions == ()
        assert isinstance(play.decision.completion, Failed)
        assert play.decision.completion.failure.is_caused_by(PayloadCodecError)


def options(codecs: PayloadCodecs) -> RuntimeOptions:
    return RuntimeOptions(codec=codecs.converter(JsonDataConverter()), codecs=codecs)


def test_codecs_are_checked() -> None:
    assert checked_codecs(None, ()) is NO_CODECS
    assert checked_codecs(Turning("a"), [Turning("b")]).decode("5") == "5"
    wrong: list[tuple[Any, Any, type[Exception], str]] = [
        (object(), (), ArgumentTypeError, "payload_codec: .* object has no encode"),
        (None, Turning("a"), ArgumentTypeError, "must be a list of codecs, not Turning"),
        (Turning("a b"), (), ConfigurationError, "must be 1 to 64 of the characters .* not 'a b'"),
        (Turning(5), (), ConfigurationError, "not 5"),  # pyright: ignore[reportArgumentType]
        (Turning("a"), [Turning("a")], ConfigurationError, "two payload codecs have the id 'a'"),
    ]
    for current, others, kind, message in wrong:
        with pytest.raises(kind, match=message):
            checked_codecs(current, others)

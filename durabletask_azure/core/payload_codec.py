"""Payload codecs: what turns user values into other bytes before they are stored or sent, such as a cipher.

They work on the text a data converter makes, at the edges: whatever a client, an orchestrator or an activity hands over
is encoded there, and decoded where one of them reads it. Between the edges (history, rows, messages, files) there is
only encoded text, and nothing looks into it or compares it, so a codec may give other bytes each time.

Encoded: inputs, outputs, events, custom statuses, reasons, and failures with message, stack trace, causes and
properties. Not encoded, because they are searched, routed by or shown: instance ids, names of orchestrators,
activities and events, versions, tags, times, statuses, and the class name of a failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, cast

import msgspec

from durabletask_azure.core.codec import DataConverter, JsonDataConverter
from durabletask_azure.core.envelope import (
    ID_FORM,
    encoded_by,
    marked_plain,
    open_envelope,
    plain_text_of,
    put_in_envelope,
)
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError, PayloadCodecError

__all__ = ["NO_CODECS", "PayloadCodec", "PayloadCodecs", "checked_codecs"]

_failure_encoder = msgspec.json.Encoder()
_failure_decoder = msgspec.json.Decoder(FailureDetails)


class PayloadCodec(Protocol):
    """Encodes the bytes of values, for example encrypts them.

    It is called on any thread, also several at once, and on the thread that keeps the hub's locks: it must not wait for
    anything (keys are fetched before the hub is opened).
    """

    @property
    def id(self) -> str:
        """What values are marked with: 1 to 64 of ``A-Z a-z 0-9 . _ -``; a new key is a codec with a new id."""
        ...

    def encode(self, data: bytes, /) -> bytes:
        """Return ``data`` encoded."""
        ...

    def decode(self, data: bytes, /) -> bytes:
        """Return what :meth:`encode` was given; raise any exception if ``data`` is not what it returned."""
        ...


class PayloadCodecs:
    """The codecs of a hub: one to encode with, if any, and others that are only read with."""

    def __init__(self, current: PayloadCodec | None = None, others: Iterable[PayloadCodec] = ()) -> None:
        self._current = current
        self._by_id = {codec.id: codec for codec in ((current,) if current is not None else ())}
        self._by_id.update({codec.id: codec for codec in others})

    def encode(self, text: str | None) -> str | None:
        """Return ``text`` as it is to be stored.

        Raises:
            PayloadCodecError: the codec failed.
        """
        codec = self._current
        if text is None:
            return None
        if codec is None:
            return marked_plain(text)
        data = text.encode()
        try:
            return put_in_envelope(codec.id, codec.encode(data))
        except Exception as error:  # the codec is the user's code
            raise PayloadCodecError(
                f"the payload codec {codec.id!r} cannot encode a value: {type(error).__name__}: {error}"
            ) from error

    def decode(self, text: str | None) -> str | None:
        """Return stored text as it was before :meth:`encode`; text that no codec has encoded as it is.

        Raises:
            PayloadCodecError: this hub was not given the codec, or it failed.
        """
        if text is None:
            return None
        codec_id = encoded_by(text)
        if codec_id is None:
            return plain_text_of(text)
        codec = self._by_id.get(codec_id)
        if codec is None:
            known = ", ".join(map(repr, self._by_id)) or "none"
            raise PayloadCodecError(
                f"a value was encoded with the payload codec {codec_id!r}, which this hub was not opened with"
                f" (it has {known})"
            )
        try:
            return codec.decode(open_envelope(text)).decode()
        except Exception as error:  # the codec is the user's code
            raise PayloadCodecError(
                f"the payload codec {codec_id!r} cannot decode a value: {type(error).__name__}: {error}"
            ) from error

    def opened(self, text: str) -> str:
        """Return stored text as it is stored without codecs: what is decoded early may then be decoded again.

        Raises:
            PayloadCodecError: as :meth:`decode`.
        """
        return text if encoded_by(text) is None else marked_plain(cast(str, self.decode(text)))

    def can_decode(self, text: str | None) -> bool:
        """Return whether :meth:`decode` succeeds."""
        try:
            self.decode(text)
        except PayloadCodecError:
            return False
        return True

    def readable(self, text: str | None) -> str | None:
        """Return stored text decoded, or as it is if that is not possible: for showing, where one must not hide all."""
        try:
            return self.decode(text)
        except PayloadCodecError:
            return text

    def encode_failure(self, failure: FailureDetails) -> FailureDetails:
        """Return a failure as it is to be stored: only its class and whether it may be retried stay readable.

        Never raises: if the codec fails, the details are left out, and the failure says so.
        """
        if self._current is None:
            message = marked_plain(failure.message)
            return (
                failure if message is failure.message else msgspec.structs.replace(failure, message=message)
            )
        try:
            message = cast(str, self.encode(_failure_encoder.encode(failure).decode()))
        except PayloadCodecError as error:
            # Without the codec's own words, which may repeat what it was given.
            kind = type(error.__cause__).__name__
            message = f"details left out: the payload codec {self._current.id!r} failed with {kind}"
        return FailureDetails(
            message=message, error_type=failure.error_type, is_non_retriable=failure.is_non_retriable
        )

    def decode_failure(self, failure: FailureDetails) -> FailureDetails:
        """Return a stored failure as it was before :meth:`encode_failure`.

        Raises:
            PayloadCodecError: as :meth:`decode`, or it is no failure.
        """
        if encoded_by(failure.message) is None:
            message = plain_text_of(failure.message)
            return (
                failure if message == failure.message else msgspec.structs.replace(failure, message=message)
            )
        try:
            return _failure_decoder.decode(cast(str, self.decode(failure.message)))
        except msgspec.DecodeError as error:
            raise PayloadCodecError(f"an encoded failure is none: {error}") from error

    def readable_failure(self, failure: FailureDetails) -> FailureDetails:
        """Return a stored failure decoded; if that is not possible, its message says why. For showing."""
        try:
            return self.decode_failure(failure)
        except PayloadCodecError as error:
            return msgspec.structs.replace(failure, message=f"its details cannot be read: {error}")

    def converter(self, inner: DataConverter) -> DataConverter:
        """Return a data converter whose text is encoded; ``inner`` itself if nothing is to be done to its text."""
        is_json = type(inner) is JsonDataConverter  # whose text is never taken for an encoded one
        return inner if is_json and not self._by_id else _EncodingConverter(inner, self)


NO_CODECS = PayloadCodecs()
"""A hub without codecs: values are stored as they are."""


class _EncodingConverter(DataConverter):
    """A data converter whose text is encoded."""

    def __init__(self, inner: DataConverter, codecs: PayloadCodecs) -> None:
        self._inner = inner
        self._codecs = codecs

    def serialize(self, value: Any) -> str | None:
        text: Any = self._inner.serialize(value)
        return self._codecs.encode(text) if isinstance(text, str) else text

    def deserialize(self, data: str | None, target_type: Any = None) -> Any:
        return self._inner.deserialize(self._codecs.decode(data), target_type)

    def coerce(self, value: Any, target_type: Any = None) -> Any:
        return self._inner.coerce(value, target_type)

    def can_reconstruct(self, target_type: Any) -> bool:
        return self._inner.can_reconstruct(target_type)


def checked_codecs(current: object, others: object) -> PayloadCodecs:
    """Return the codecs of a hub.

    Raises:
        ArgumentTypeError: one is not a codec. ConfigurationError: an id is not allowed, or given twice.
    """
    if not isinstance(others, (list, tuple)):
        raise ArgumentTypeError(f"other_payload_codecs must be a list of codecs, not {type(others).__name__}")
    readable = [_checked(codec, "other_payload_codecs") for codec in cast(Iterable[object], others)]
    chosen = None if current is None else _checked(current, "payload_codec")
    ids = [codec.id for codec in (*(() if chosen is None else (chosen,)), *readable)]
    for codec_id in ids:
        if ids.count(codec_id) > 1:
            raise ConfigurationError(f"two payload codecs have the id {codec_id!r}; each must have its own")
    return PayloadCodecs(chosen, readable) if ids else NO_CODECS


def _checked(codec: Any, what: str) -> PayloadCodec:
    for method in ("encode", "decode"):
        if not callable(getattr(codec, method, None)):
            raise ArgumentTypeError(
                f"{what}: a codec has an id and the methods encode(data) and decode(data);"
                f" {type(codec).__name__} has no {method}"
            )
    codec_id = getattr(codec, "id", None)
    if not isinstance(codec_id, str) or not ID_FORM.fullmatch(codec_id):
        raise ConfigurationError(
            f"{what}: the id of a codec must be 1 to 64 of the characters A-Z a-z 0-9 . _ -, not {codec_id!r}"
        )
    return codec

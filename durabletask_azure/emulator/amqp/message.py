"""Messages: read what a broker has to know of one, and put together what it hands out.

The broker never decodes a body. It keeps the sections from the properties on as the bytes they came in (the bare
message) and the annotations key by key, still encoded, so that nothing changes type on its way through.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final
from uuid import UUID

from durabletask_azure.emulator.amqp.decode import decode, skip
from durabletask_azure.emulator.amqp.encode import encode, encode_composite, encode_map, encode_section
from durabletask_azure.emulator.amqp.types import (
    ITEMS_MAX,
    AmqpError,
    DecodeError,
    Encoded,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    Value,
    mapping,
    text,
)

HEADER: Final = 0x70
DELIVERY_ANNOTATIONS: Final = 0x71
ANNOTATIONS: Final = 0x72
PROPERTIES: Final = 0x73
APPLICATION_PROPERTIES: Final = 0x74
DATA: Final = 0x75
SEQUENCE: Final = 0x76
VALUE: Final = 0x77
FOOTER: Final = 0x78

BATCH_FORMAT: Final = 0x80013700
SCHEDULED_FOR: Final = "x-opt-scheduled-enqueue-time"
PARTITION_KEY: Final = "x-opt-partition-key"
# What a broker says of a message; a sender's values for these do not survive.
_BROKERS_OWN: Final = frozenset(
    {
        "x-opt-enqueued-time",
        "x-opt-sequence-number",
        "x-opt-enqueue-sequence-number",
        "x-opt-locked-until",
        "x-opt-message-state",
        "x-opt-lock-token",
        "x-opt-deadletter-source",
        SCHEDULED_FOR,
    }
)
_MESSAGE_ID, _GROUP_ID = 0, 10
UINT_MAX: Final = 2**32 - 1
# The end of the year 9999, in milliseconds since 1970: the last time .NET knows.
SCHEDULED_MS_MAX: Final = 253_402_300_799_999


@dataclass(slots=True)
class Content:
    """A message as a sender made it.

    Attributes:
        bare: the sections from the properties on, as they came.
        durable: the flag of the header.
        priority: of the header.
        ttl_ms: the time to live of the header, in milliseconds.
        annotations: what the sender put into the message annotations: encoded key and encoded value.
        message_id: the id as text, empty if there is none; ids of two types with the same text are the same.
        session_id: the group id, None if there is none.
        partition_key: from the annotations.
        scheduled_ms: when the message should become available, in milliseconds since 1970.
    """

    bare: bytes
    durable: bool | None = None
    priority: int | None = None
    ttl_ms: int | None = None
    annotations: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    message_id: str = ""
    session_id: str | None = None
    partition_key: str | None = None
    scheduled_ms: int | None = None

    @property
    def size(self) -> int:
        """The bytes it takes, near enough for quotas."""
        return len(self.bare) + sum([len(key) + len(value) for key, value in self.annotations])


def sections(payload: bytes) -> list[tuple[int, int, int]]:
    """Return code, begin and end of each section; the begin is that of the section's value.

    Raises:
        DecodeError: the payload is not made of sections.
    """
    found: list[tuple[int, int, int]] = []
    at, size = 0, len(payload)
    while at < size:
        if payload[at] != 0:
            raise DecodeError("a message is not made of sections")
        descriptor, start = decode(payload, at + 1)
        if not isinstance(descriptor, int) or not HEADER <= descriptor <= FOOTER:
            raise DecodeError(f"{descriptor!r} is no section of a message")
        end = skip(payload, start)
        found.append((descriptor, start, end))
        if len(found) > ITEMS_MAX:
            raise DecodeError("a message has too many sections")
        at = end
    return found


def read_content(payload: bytes) -> Content:
    """Read a message.

    Raises:
        DecodeError: it is not one.
        AmqpError: a field has a value that is not allowed.
    """
    content = Content(b"")
    bare_from: int | None = None
    previous_end = 0
    for code, start, end in sections(payload):
        if code >= PROPERTIES and bare_from is None:
            bare_from = previous_end
        if code == HEADER:
            _read_header(content, decode(payload, start)[0])
        elif code == ANNOTATIONS:
            _read_annotations(content, payload, start)
        elif code == PROPERTIES:
            _read_properties(content, decode(payload, start)[0])
        elif code == APPLICATION_PROPERTIES and payload[start] not in (0xC1, 0xD1):
            raise DecodeError("the application properties are not a map")
        previous_end = end
    content.bare = payload[bare_from:] if bare_from is not None else b""
    return content


def _read_header(content: Content, value: Value) -> None:
    fields = [*value, None, None, None] if isinstance(value, list) else [None, None, None]
    durable, priority, ttl = fields[:3]
    content.durable = durable if isinstance(durable, bool) else None
    content.priority = _within(priority, "priority", 255)
    content.ttl_ms = _within(ttl, "time to live", UINT_MAX)


def _within(value: Value, what: str, most: int) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or not 0 <= value <= most:
        raise DecodeError(f"the {what} of a message is 0 to {most}")
    return int(value)


def _read_properties(content: Content, value: Value) -> None:
    fields = [*value, *[None] * 13] if isinstance(value, list) else [None] * 13
    message_id, group_id = fields[_MESSAGE_ID], fields[_GROUP_ID]
    if isinstance(message_id, (str, int, UUID)):
        content.message_id = str(message_id)
    elif isinstance(message_id, bytes):
        content.message_id = message_id.hex()
    if isinstance(group_id, str):
        content.session_id = group_id
    for name, identifier in (("message id", content.message_id), ("session id", content.session_id or "")):
        if len(identifier) > 128:
            raise AmqpError("amqp:not-allowed", f"a {name} has at most 128 characters, not {len(identifier)}")


def _read_annotations(content: Content, payload: bytes, start: int) -> None:
    value, end = decode(payload, start)
    if not isinstance(value, dict):
        raise DecodeError("the message annotations are not a map")
    # Walk the same bytes again, to keep the values as they are encoded.
    at = start + (3 if payload[start] == 0xC1 else 9)
    while at < end:
        key_end = skip(payload, at)
        value_end = skip(payload, key_end)
        name = text(decode(payload, at)[0])
        if name not in _BROKERS_OWN:
            content.annotations.append((payload[at:key_end], payload[key_end:value_end]))
        at = value_end
    scheduled = value.get(SCHEDULED_FOR)
    if scheduled is not None:
        content.scheduled_ms = _within(scheduled, SCHEDULED_FOR, SCHEDULED_MS_MAX)
    partition_key = value.get(PARTITION_KEY)
    if isinstance(partition_key, str):
        content.partition_key = partition_key


def batch_parts(payload: bytes) -> list[bytes]:
    """Return the messages of a batch: one in each data section.

    Raises:
        DecodeError: a section holds something else.
    """
    parts: list[bytes] = []
    for code, start, _ in sections(payload):
        if code == DATA:
            part = decode(payload, start)[0]
            if not isinstance(part, bytes):
                raise DecodeError("a batch holds something that is not a message")
            parts.append(part)
    return parts


def change_properties(content: Content, changes: dict[str, Value]) -> Content:
    """Return the message with some application properties set; the others keep their encoding.

    Raises:
        AmqpError: a value cannot be one.
    """
    bare = content.bare
    kept: list[bytes] = []
    before, after = b"", bare
    begin = 0
    for code, start, end in sections(bare):
        if code == PROPERTIES:
            before, after = bare[:end], bare[end:]
        elif code == APPLICATION_PROPERTIES:
            before, after = bare[:begin], bare[end:]
            at = start + (3 if bare[start] == 0xC1 else 9)
            while at < end:
                key_end = skip(bare, at)
                value_end = skip(bare, key_end)
                if text(decode(bare, at)[0]) not in changes:
                    kept += [bare[at:key_end], bare[key_end:value_end]]
                at = value_end
        begin = end
    try:
        kept += [encode(part) for pair in changes.items() for part in pair]
    except (TypeError, struct.error) as error:
        raise AmqpError("amqp:not-allowed", f"a property cannot be kept: {error}") from error
    section = encode_section(APPLICATION_PROPERTIES, encode_map(kept))
    return replace(content, bare=before + section + after)


def application_properties(content: Content) -> dict[str, Value]:
    """Return the application properties of a message."""
    for code, start, _ in sections(content.bare):
        if code == APPLICATION_PROPERTIES:
            return {text(key): value for key, value in mapping(decode(content.bare, start)[0]).items()}
    return {}


def build_delivery(
    content: Content, delivery_count: int, own: list[tuple[bytes, bytes]], lock_token: bytes | None
) -> bytes:
    """Put a message together for a receiver.

    Args:
        content: what the sender made.
        delivery_count: how often it was delivered before.
        own: the broker's annotations, keys and values encoded.
        lock_token: the token of the lock on it, as it stands in the delivery tag.
    """
    header: list[Value] = [
        content.durable,
        None if content.priority is None else UByte(content.priority),
        None if content.ttl_ms is None else UInt(content.ttl_ms),
        None,
        UInt(delivery_count),
    ]
    annotations = [part for pair in (*own, *content.annotations) for part in pair]
    locked = b"" if lock_token is None else _LOCK_TOKEN + UUID(bytes_le=lock_token).bytes
    return (
        encode_composite(HEADER, header)
        + locked
        + encode_section(ANNOTATIONS, encode_map(annotations))
        + content.bare
    )


# The delivery annotation `x-opt-lock-token`, up to the 16 bytes of the token.
_LOCK_TOKEN: Final = (
    encode_section(DELIVERY_ANNOTATIONS, b"\xc1\x24\x02") + encode(Symbol("x-opt-lock-token")) + b"\x98"
)


@cache
def annotation_key(name: str) -> bytes:
    """Encode the name of an annotation."""
    return encode(Symbol(name))


def annotation(name: str, value: Value) -> tuple[bytes, bytes]:
    """Encode one annotation."""
    return annotation_key(name), encode(value)


def annotation_time(name: str, seconds: float) -> tuple[bytes, bytes]:
    """Encode an annotation that is a time, given in seconds since 1970."""
    return annotation(name, Timestamp(round(seconds * 1000)))


@dataclass(slots=True)
class Request:
    """A message of the request and response pattern, wholly decoded.

    Attributes:
        message_id: its id, with its wire type, for the answer's correlation id.
        reply_to: where the answer goes.
        properties: the application properties.
        body: the value of the body.
    """

    message_id: Encoded | None
    reply_to: str
    properties: dict[str, Value]
    body: Value


def read_request(payload: bytes) -> Request:
    """Read a request of `$cbs` or `$management`.

    Raises:
        DecodeError: it is not a message.
    """
    request = Request(None, "", {}, None)
    for code, start, end in sections(payload):
        if code == VALUE:
            request.body = decode(payload, start)[0]
        elif code == APPLICATION_PROPERTIES:
            request.properties = {
                text(key): value for key, value in mapping(decode(payload, start)[0]).items()
            }
        elif code == PROPERTIES:
            fields = decode(payload, start)[0]
            if isinstance(fields, list) and fields:
                at = start + (1 if payload[start] == 0x45 else 3 if payload[start] == 0xC0 else 9)
                request.message_id = Encoded(payload[at : skip(payload, at)])
                request.reply_to = text([*fields, *[None] * 5][4])
        del end
    return request


def build_response(request: Request, properties: dict[str, Value], body: Value = None) -> bytes:
    """Build the answer to a request."""
    head = encode_composite(PROPERTIES, [None, None, None, None, None, request.message_id])
    named = encode_map([encode(part) for pair in properties.items() for part in pair])
    return head + encode_section(APPLICATION_PROPERTIES, named) + encode_section(VALUE, encode(body))

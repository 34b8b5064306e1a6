"""The bodies of AMQP frames, as typed values.

Each class lists the fields of the specification (OASIS AMQP 1.0, part 2 section 2.7, part 3 section 3.5, part 5
section 5.3) in order. A field of the wrong type is a `DecodeError`; an absent one takes its default.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final

from durabletask_azure.emulator.amqp.decode import decode
from durabletask_azure.emulator.amqp.types import DecodeError, Described, Value

UINT_MAX: Final = 2**32 - 1
ULONG_MAX: Final = 2**64 - 1
RECEIVER: Final = True
SENDER: Final = False


@dataclass(slots=True, kw_only=True)
class Performative:
    """What all have in common: a descriptor."""

    code: ClassVar[int]


@dataclass(slots=True, kw_only=True)
class Open(Performative):
    """Opens a connection."""

    code: ClassVar[int] = 0x10
    container_id: str
    hostname: str | None = None
    max_frame_size: int | None = None
    channel_max: int | None = None
    idle_time_out: int | None = None
    outgoing_locales: Value = None
    incoming_locales: Value = None
    offered_capabilities: Value = None
    desired_capabilities: Value = None
    properties: dict[Value, Value] | None = None


@dataclass(slots=True, kw_only=True)
class Begin(Performative):
    """Begins a session."""

    code: ClassVar[int] = 0x11
    remote_channel: int | None = None
    next_outgoing_id: int
    incoming_window: int
    outgoing_window: int
    handle_max: int | None = None
    offered_capabilities: Value = None
    desired_capabilities: Value = None
    properties: dict[Value, Value] | None = None


@dataclass(slots=True, kw_only=True)
class Attach(Performative):
    """Attaches a link."""

    code: ClassVar[int] = 0x12
    name: str
    handle: int
    role: bool
    snd_settle_mode: int | None = None
    rcv_settle_mode: int | None = None
    source: Value = None
    target: Value = None
    unsettled: Value = None
    incomplete_unsettled: bool | None = None
    initial_delivery_count: int | None = None
    max_message_size: int | None = None
    offered_capabilities: Value = None
    desired_capabilities: Value = None
    properties: dict[Value, Value] | None = None


@dataclass(slots=True, kw_only=True)
class Flow(Performative):
    """Updates the windows of a session and the credit of a link."""

    code: ClassVar[int] = 0x13
    next_incoming_id: int | None = None
    incoming_window: int
    next_outgoing_id: int
    outgoing_window: int
    handle: int | None = None
    delivery_count: int | None = None
    link_credit: int | None = None
    available: int | None = None
    drain: bool | None = None
    echo: bool | None = None
    properties: dict[Value, Value] | None = None


@dataclass(slots=True, kw_only=True)
class Transfer(Performative):
    """Carries (a part of) a message."""

    code: ClassVar[int] = 0x14
    handle: int
    delivery_id: int | None = None
    delivery_tag: bytes | None = None
    message_format: int | None = None
    settled: bool | None = None
    more: bool | None = None
    rcv_settle_mode: int | None = None
    state: Value = None
    resume: bool | None = None
    aborted: bool | None = None
    batchable: bool | None = None


@dataclass(slots=True, kw_only=True)
class Disposition(Performative):
    """Tells the state of deliveries."""

    code: ClassVar[int] = 0x15
    role: bool
    first: int
    last: int | None = None
    settled: bool | None = None
    state: Value = None
    batchable: bool | None = None


@dataclass(slots=True, kw_only=True)
class Detach(Performative):
    """Detaches a link."""

    code: ClassVar[int] = 0x16
    handle: int
    closed: bool | None = None
    error: Value = None


@dataclass(slots=True, kw_only=True)
class End(Performative):
    """Ends a session."""

    code: ClassVar[int] = 0x17
    error: Value = None


@dataclass(slots=True, kw_only=True)
class Close(Performative):
    """Closes the connection."""

    code: ClassVar[int] = 0x18
    error: Value = None


@dataclass(slots=True, kw_only=True)
class SaslInit(Performative):
    """The peer's choice of a SASL mechanism."""

    code: ClassVar[int] = 0x41
    mechanism: str
    initial_response: bytes | None = None
    hostname: str | None = None


_TYPES: Final[dict[str, type]] = {
    "str": str,
    "int": int,
    "bool": bool,
    "bytes": bytes,
    "dict[Value, Value]": dict,
    "Value": object,
}


def _specification(kind: type[Performative]) -> list[tuple[str, type]]:
    """Return name and type of each field."""
    return [(field.name, _TYPES[str(field.type).removesuffix(" | None")]) for field in fields(kind)]


_KINDS: Final[tuple[type[Performative], ...]] = (
    Open,
    Begin,
    Attach,
    Flow,
    Transfer,
    Disposition,
    Detach,
    End,
    Close,
    SaslInit,
)
_BY_CODE: Final = {kind.code: (kind, _specification(kind)) for kind in _KINDS}
_BY_SYMBOL: Final = {
    "amqp:open:list": Open.code,
    "amqp:begin:list": Begin.code,
    "amqp:attach:list": Attach.code,
    "amqp:flow:list": Flow.code,
    "amqp:transfer:list": Transfer.code,
    "amqp:disposition:list": Disposition.code,
    "amqp:detach:list": Detach.code,
    "amqp:end:list": End.code,
    "amqp:close:list": Close.code,
    "amqp:sasl-init:list": SaslInit.code,
}


def decode_performative(body: bytes) -> tuple[Performative, int]:
    """Decode the performative at the beginning of a frame's body.

    Returns:
        The performative, and where it ends: what follows is the payload of a transfer.

    Raises:
        DecodeError: there is none, or one of its fields is wrong.
    """
    value, end = decode(body)
    if not isinstance(value, Described) or not isinstance(value.value, list):
        raise DecodeError("a frame does not begin with a performative")
    descriptor = value.descriptor
    code = _BY_SYMBOL.get(descriptor) if isinstance(descriptor, str) else descriptor
    known = _BY_CODE.get(code) if isinstance(code, int) else None
    if known is None:
        raise DecodeError(f"{descriptor!r} is no performative")
    kind, specification = known
    values = value.value
    if len(values) > len(specification):
        raise DecodeError(f"{kind.__name__} has too many fields")
    given: dict[str, Any] = {}
    for (name, wanted), item in zip(specification, values, strict=False):
        if item is None:
            continue
        if wanted is not object and not _is(
            item, wanted, ULONG_MAX if name == "max_message_size" else UINT_MAX
        ):
            raise DecodeError(f"{name} of {kind.__name__} has the wrong type")
        given[name] = item
    try:
        return kind(**given), end
    except TypeError as error:
        raise DecodeError(f"{kind.__name__} lacks a field") from error


def _is(item: Value, wanted: type, most: int) -> bool:
    if wanted is int:
        return type(item) is int and 0 <= item <= most
    return isinstance(item, wanted)

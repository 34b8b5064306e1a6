"""The states of a delivery and the error type, as they stand in frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from durabletask_azure.emulator.amqp.encode import NULL, encode, encode_composite, encode_list, encode_section
from durabletask_azure.emulator.amqp.types import (
    AmqpError,
    Described,
    Encoded,
    Symbol,
    Value,
    mapping,
    text,
)

RECEIVED: Final = 0x23
ACCEPTED: Final = 0x24
REJECTED: Final = 0x25
RELEASED: Final = 0x26
MODIFIED: Final = 0x27
_ERROR: Final = 0x1D
_NAMES: Final = {
    "amqp:received:list": RECEIVED,
    "amqp:accepted:list": ACCEPTED,
    "amqp:rejected:list": REJECTED,
    "amqp:released:list": RELEASED,
    "amqp:modified:list": MODIFIED,
}

STATE_ACCEPTED: Final = Encoded(encode_composite(ACCEPTED, []))
STATE_RELEASED: Final = Encoded(encode_composite(RELEASED, []))


def encode_error(error: AmqpError) -> Encoded:
    """Encode an error with all three fields: the SDK's sender looks at the third without asking whether it is there."""
    fields = (encode(Symbol(error.condition)), encode(error.description or None), NULL)
    return Encoded(encode_section(_ERROR, encode_list(fields)))


def encode_rejected(error: AmqpError | None = None) -> Encoded:
    """Encode the state `rejected`, with or without the error that tells why."""
    return Encoded(encode_composite(REJECTED, [encode_error(error) if error else None]))


def encode_modified(delivery_failed: bool, undeliverable_here: bool) -> Encoded:
    """Encode the state `modified`."""
    return Encoded(encode_composite(MODIFIED, [delivery_failed or None, undeliverable_here or None]))


@dataclass(slots=True)
class Outcome:
    """A delivery state a peer sent.

    Attributes:
        code: one of `ACCEPTED`, `REJECTED`, `RELEASED`, `MODIFIED`, `RECEIVED`; 0 if there is no state or no such one.
        condition: the condition of a rejection.
        description: its description.
        info: what more it tells, by name.
        delivery_failed: the flag of `modified`.
        undeliverable_here: the flag of `modified`.
        annotations: message annotations or properties to change, of `modified`.
    """

    code: int = 0
    condition: str = ""
    description: str = ""
    info: dict[Value, Value] = field(default_factory=dict[Value, Value])
    delivery_failed: bool = False
    undeliverable_here: bool = False
    annotations: dict[Value, Value] = field(default_factory=dict[Value, Value])


def read_error(value: Value) -> AmqpError | None:
    """Read an error a peer sent; None if the value is none."""
    if not isinstance(value, Described) or not isinstance(value.value, list):
        return None
    fields = [*value.value, None, None]
    return AmqpError(text(fields[0], "amqp:internal-error"), text(fields[1]))


def read_state(value: Value) -> Outcome:
    """Read a delivery state a peer sent."""
    if not isinstance(value, Described):
        return Outcome()
    descriptor = value.descriptor
    code = _NAMES.get(descriptor, 0) if isinstance(descriptor, str) else descriptor
    if not isinstance(code, int) or code not in _NAMES.values():
        return Outcome()
    fields = value.value if isinstance(value.value, list) else []
    if code == REJECTED and fields and isinstance(fields[0], Described):
        error = fields[0].value if isinstance(fields[0].value, list) else []
        error = [*error, None, None, None]
        return Outcome(code, condition=text(error[0]), description=text(error[1]), info=mapping(error[2]))
    if code == MODIFIED:
        fields = [*fields, None, None, None]
        return Outcome(
            code,
            delivery_failed=fields[0] is True,
            undeliverable_here=fields[1] is True,
            annotations=mapping(fields[2]),
        )
    return Outcome(code)

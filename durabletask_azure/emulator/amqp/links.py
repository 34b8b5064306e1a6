"""The two kinds of link of a session, seen from the broker's side.

An incoming link carries messages from the peer, an outgoing one to the peer. Links do no I/O: what they send goes
through their session into the connection's output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durabletask_azure.emulator.amqp.encode import NULL, encode, encode_composite
from durabletask_azure.emulator.amqp.performatives import (
    RECEIVER,
    SENDER,
    UINT_MAX,
    Attach,
    Detach,
    Flow,
    Transfer,
)
from durabletask_azure.emulator.amqp.states import encode_error, encode_rejected
from durabletask_azure.emulator.amqp.types import (
    AmqpError,
    Described,
    Encoded,
    Symbol,
    UByte,
    UInt,
    ULong,
    Value,
    mapping,
    text,
)

if TYPE_CHECKING:
    from durabletask_azure.emulator.amqp.session import Session

SETTLED: Final = 1
INCOMING_CREDIT: Final = 1000
_SOURCE: Final = 0x28
_SOURCE_FILTER: Final = 7
_TARGET: Final = 0x29


def _terminus(value: Value) -> list[Value] | None:
    if isinstance(value, Described) and isinstance(value.value, list):
        return value.value
    return None


class _Link:
    """What both kinds share: names, addresses, attaching and detaching."""

    def __init__(self, session: Session, attach: Attach, handle: int) -> None:
        self.session = session
        self.name = attach.name
        self.handle = handle
        self.remote_handle = attach.handle
        self.properties = {text(key): value for key, value in mapping(attach.properties).items()}
        self.attached = False
        self.on_detached: Callable[[], None] | None = None
        self._attach = attach
        source, target = _terminus(attach.source), _terminus(attach.target)
        self.source_address = text(source[0]) if source else ""
        self.target_address = text(target[0]) if target else ""
        filters = source[_SOURCE_FILTER] if source and len(source) > _SOURCE_FILTER else None
        self.filters = {text(key): value for key, value in mapping(filters).items()}

    @property
    def role(self) -> bool:
        """Our role on the link."""
        return not self._attach.role

    def refuse(self, error: AmqpError) -> None:
        """Answer the attach with no terminus, then close the link, as the specification asks (2.6.3)."""
        self._send_attach(Encoded(NULL), Encoded(NULL), {}, None)
        self._send_detach(error)

    def detach(self, error: AmqpError | None = None) -> None:
        """Close the link. The peer's answer ends it."""
        if self.attached:
            self._send_detach(error)

    def _send_detach(self, error: AmqpError | None) -> None:
        self.attached = False
        self.session.forget(self)
        self.session.send(
            encode_composite(Detach.code, [UInt(self.handle), True, encode_error(error) if error else None])
        )

    def _send_attach(
        self, source: Value, target: Value, properties: dict[str, Value], max_message_bytes: int | None
    ) -> None:
        ours = self._attach
        named: dict[Value, Value] = {Symbol(name): value for name, value in properties.items()}
        fields: list[Value] = [
            ours.name,
            UInt(self.handle),
            self.role,
            UByte(2 if ours.snd_settle_mode is None else ours.snd_settle_mode),
            UByte(ours.rcv_settle_mode or 0),
            source,
            target,
            None,
            None,
            None if self.role == RECEIVER else UInt(0),
            None if max_message_bytes is None else ULong(max_message_bytes),
            None,
            None,
            named or None,
        ]
        self.session.send(encode_composite(Attach.code, fields))

    def _source(self, filters: dict[str, Value]) -> Value:
        named: dict[Value, Value] = {Symbol(name): value for name, value in filters.items()}
        source: list[Value] = [
            self.source_address or None,
            UInt(0),
            None,
            None,
            None,
            None,
            None,
            named or None,
        ]
        return Encoded(encode_composite(_SOURCE, source))


class IncomingLink(_Link):
    """A link on which the peer sends. Credit is kept up by itself."""

    def __init__(self, session: Session, attach: Attach, handle: int) -> None:
        super().__init__(session, attach, handle)
        self._delivery_count = attach.initial_delivery_count or 0
        self._credit = 0
        self._max_bytes = 0
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._first: Transfer | None = None

    def accept(self, properties: dict[str, Value], max_message_bytes: int) -> None:
        """Answer the attach and let the peer send."""
        self.attached = True
        self._max_bytes = max_message_bytes
        self._send_attach(self._source({}), _encoded_target(self), properties, max_message_bytes)
        self._grant()

    def transfer(self, transfer: Transfer, payload: bytes) -> tuple[Transfer, bytes] | None:
        """Take a transfer; return the first transfer of its message and the whole payload once it is complete.

        A message that is too large is refused here, as Azure does: the link lives on.

        Raises:
            AmqpError: the link's limits are broken.
        """
        if self._first is None:
            self._first = transfer
            if self._credit <= 0:
                raise AmqpError("amqp:link:transfer-limit-exceeded", "a message came without credit")
        if transfer.aborted:
            self._clear()
            return None
        self._parts_bytes += len(payload)
        if self._parts_bytes > self._max_bytes:
            # Said at the end of the message; until then nothing of it is kept.
            self._parts = []
        elif payload and (transfer.more or self._parts):
            # Empty ones are not kept: they count nothing, so that no limit would ever stop them.
            self._parts.append(payload)
        if transfer.more:
            return None
        too_large = self._parts_bytes > self._max_bytes
        if self._parts:
            payload = b"".join(self._parts)
        first = self._first
        self._clear()
        self._delivery_count = (self._delivery_count + 1) & UINT_MAX
        self._credit -= 1
        if self._credit < INCOMING_CREDIT // 2:
            self._grant()
        if too_large:
            if first.delivery_id is not None and not (first.settled or transfer.settled):
                self.settle(first.delivery_id, encode_rejected(_too_large(self._max_bytes)))
            return None
        return first, payload

    def _clear(self) -> None:
        self._parts = []
        self._parts_bytes = 0
        self._first = None

    def settle(self, delivery_id: int, state: Encoded) -> None:
        """Tell the peer what became of its message."""
        self.session.send_disposition(RECEIVER, delivery_id, state)

    def _grant(self) -> None:
        self._credit = INCOMING_CREDIT
        self.session.send_flow(
            [UInt(self.handle), UInt(self._delivery_count), UInt(self._credit), None, False]
        )


def _encoded_target(link: _Link) -> Value:
    return Encoded(encode_composite(_TARGET, [link.target_address or None, UInt(0)]))


def _too_large(allowed: int) -> AmqpError:
    return AmqpError("amqp:link:message-size-exceeded", f"a message has at most {allowed} bytes on this link")


class OutgoingDelivery:
    """A message handed to the peer and not settled yet."""

    __slots__ = ("delivery_id", "link", "tag")

    def __init__(self, link: OutgoingLink, delivery_id: int, tag: bytes) -> None:
        self.link = link
        self.delivery_id = delivery_id
        self.tag = tag


class OutgoingLink(_Link):
    """A link on which the peer receives; `credit` says how many messages it takes now."""

    def __init__(self, session: Session, attach: Attach, handle: int) -> None:
        super().__init__(session, attach, handle)
        self.credit = 0
        self.drain = False
        self._delivery_count = 0
        # The part of every transfer that never changes.
        self._head = encode(UInt(handle))

    @property
    def presettled(self) -> bool:
        """Whether the peer asked for messages that are settled when they are sent."""
        return self._attach.snd_settle_mode == SETTLED

    def accept(self, filters: dict[str, Value], properties: dict[str, Value]) -> None:
        """Answer the attach."""
        self.attached = True
        self._send_attach(self._source(filters), _encoded_target(self), properties, None)

    def flow(self, flow: Flow) -> None:
        """Take the peer's credit."""
        if flow.link_credit is not None:
            counted = flow.delivery_count if flow.delivery_count is not None else 0
            # Serial numbers: the difference is small, whichever of the two has wrapped.
            ahead = (self._delivery_count - counted) & UINT_MAX
            self.credit = max(flow.link_credit - ahead, 0) if ahead <= UINT_MAX // 2 else flow.link_credit
        self.drain = flow.drain is True
        if flow.echo:
            self._send_flow()

    def drained(self) -> None:
        """Give back the credit that is left, because the peer asked to drain and there is nothing more."""
        self._delivery_count = (self._delivery_count + self.credit) & UINT_MAX
        self.credit = 0
        self._send_flow()
        self.drain = False

    def _send_flow(self) -> None:
        self.session.send_flow(
            [UInt(self.handle), UInt(self._delivery_count), UInt(self.credit), None, self.drain]
        )

    def send(self, tag: bytes, payload: bytes, settled: bool) -> None:
        """Send a message; it takes one credit, which the caller has seen to be there."""
        self.credit -= 1
        self._delivery_count = (self._delivery_count + 1) & UINT_MAX
        self.session.send_message(self, self._head, tag, payload, settled)

    def settle(self, delivery: OutgoingDelivery, state: Encoded) -> None:
        """Confirm the peer's outcome of a delivery."""
        self.session.send_disposition(SENDER, delivery.delivery_id, state)

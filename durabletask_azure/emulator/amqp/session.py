"""A session: its windows, its links, and the deliveries the peer has not settled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from durabletask_azure.emulator.amqp.encode import encode, encode_composite, encode_list
from durabletask_azure.emulator.amqp.events import (
    CreditChanged,
    DeliveryUpdated,
    Event,
    LinkAttached,
    LinkDetached,
    MessageReceived,
)
from durabletask_azure.emulator.amqp.links import IncomingLink, OutgoingDelivery, OutgoingLink
from durabletask_azure.emulator.amqp.performatives import (
    RECEIVER,
    UINT_MAX,
    Attach,
    Begin,
    Detach,
    Disposition,
    Flow,
    Transfer,
)
from durabletask_azure.emulator.amqp.states import read_state
from durabletask_azure.emulator.amqp.types import AmqpError, Encoded, UInt, UShort, Value

INCOMING_WINDOW: Final = 5000
OUTGOING_WINDOW: Final = 5000
HANDLE_MAX: Final = 254
_TRANSFER_HEAD: Final = b"\x00\x53\x14"
_DISPOSITION_HEAD: Final = b"\x00\x53\x15"
_TRUE, _FALSE, _FORMAT_0 = b"\x41", b"\x42", b"\x43"
# What a transfer needs beside its payload: frame header, descriptor, list, handle, id, tag, format, two flags.
_TRANSFER_OVERHEAD: Final = 80

Link = IncomingLink | OutgoingLink


class Session:
    """One session of a connection.

    Args:
        begin: the peer's begin.
        channel: our channel.
        send: puts a frame's body on that channel.
        frame_bytes_max: the largest frame the peer takes.
    """

    def __init__(
        self, begin: Begin, channel: int, send: Callable[[int, bytes], None], frame_bytes_max: int
    ) -> None:
        self.channel = channel
        self.unsettled: dict[int, OutgoingDelivery] = {}
        self._send = send
        self._payload_max = max(frame_bytes_max - _TRANSFER_OVERHEAD, 64)
        self._links_in: dict[int, Link] = {}
        self._detaching: set[int] = set()
        self._handles: set[int] = set()
        self._next_incoming = begin.next_outgoing_id & UINT_MAX
        self._incoming_window = INCOMING_WINDOW
        self._next_outgoing = 1
        self._remote_window = begin.incoming_window
        self._next_delivery = 1
        self._waiting: deque[bytes] = deque()

    def begin(self, remote_channel: int) -> None:
        """Answer the peer's begin."""
        fields: list[Value] = [
            UShort(remote_channel),
            UInt(self._next_outgoing),
            UInt(INCOMING_WINDOW),
            UInt(OUTGOING_WINDOW),
            UInt(HANDLE_MAX),
        ]
        self.send(encode_composite(Begin.code, fields))

    def send(self, body: bytes) -> None:
        """Send a frame's body on the session's channel."""
        self._send(self.channel, body)

    @property
    def congested(self) -> bool:
        """Whether frames wait for the peer to open its window."""
        return bool(self._waiting)

    @property
    def links(self) -> list[Link]:
        """The links the peer has attached."""
        return list(self._links_in.values())

    def forget(self, link: Link | object) -> None:
        """Drop a link we detached; the peer may still send on it until it has heard of that."""
        assert isinstance(link, (IncomingLink, OutgoingLink))
        if self._links_in.pop(link.remote_handle, None) is link:
            self._detaching.add(link.remote_handle)
        self._handles.discard(link.handle)
        self._drop_deliveries(link)

    def _drop_deliveries(self, link: Link) -> None:
        if isinstance(link, OutgoingLink):
            for delivery_id in [key for key, value in self.unsettled.items() if value.link is link]:
                del self.unsettled[delivery_id]

    # ------------------------------------------------------------ frames of the peer

    def attach(self, attach: Attach) -> list[Event]:
        """Take an attach."""
        if attach.handle in self._links_in:
            raise AmqpError("amqp:session:handle-in-use", f"handle {attach.handle} is in use")
        if (attach.snd_settle_mode or 0) > 2 or (attach.rcv_settle_mode or 0) > 1:
            raise AmqpError("amqp:invalid-field", "there is no such settle mode")
        if attach.handle > HANDLE_MAX or len(self._links_in) > HANDLE_MAX:
            raise AmqpError("amqp:resource-limit-exceeded", f"a session has at most {HANDLE_MAX + 1} links")
        self._detaching.discard(attach.handle)
        handle = next(number for number in range(HANDLE_MAX + 2) if number not in self._handles)
        kind = OutgoingLink if attach.role == RECEIVER else IncomingLink
        link = kind(self, attach, handle)
        self._handles.add(handle)
        self._links_in[attach.handle] = link
        return [LinkAttached(link)]

    def detach(self, detach: Detach) -> list[Event]:
        """Take a detach, and answer it unless it is an answer."""
        if detach.handle in self._detaching:
            self._detaching.discard(detach.handle)
            return []
        link = self._links_in.pop(detach.handle, None)
        if link is None:
            raise AmqpError("amqp:session:unattached-handle", f"handle {detach.handle} is not attached")
        self._handles.discard(link.handle)
        self._drop_deliveries(link)
        link.attached = False
        self.send(encode_composite(Detach.code, [UInt(link.handle), detach.closed is True]))
        return [LinkDetached(link, cut=False)]

    def transfer(self, transfer: Transfer, payload: bytes) -> list[Event]:
        """Take a transfer."""
        self._next_incoming = (self._next_incoming + 1) & UINT_MAX
        self._incoming_window -= 1
        if self._incoming_window < 0:
            raise AmqpError("amqp:session:window-violation", "a transfer came through a closed window")
        if self._incoming_window < INCOMING_WINDOW // 2:
            self._incoming_window = INCOMING_WINDOW
            self.send_flow([])
        link = self._links_in.get(transfer.handle)
        if link is None:
            if transfer.handle in self._detaching:
                return []
            raise AmqpError("amqp:session:unattached-handle", f"handle {transfer.handle} is not attached")
        if not isinstance(link, IncomingLink):
            raise AmqpError("amqp:not-allowed", "a transfer came on a link on which the peer receives")
        try:
            whole = link.transfer(transfer, payload)
        except AmqpError as error:
            if not link.attached:
                # The link is not even answered yet; nothing less than the connection can be refused.
                raise
            link.detach(error)
            return [LinkDetached(link, cut=False)]
        if whole is None:
            return []
        first, payload = whole
        if first.delivery_id is None:
            raise AmqpError("amqp:invalid-field", "the first transfer of a message has no delivery id")
        settled = first.settled is True or transfer.settled is True
        return [MessageReceived(link, first.delivery_id, first.message_format or 0, payload, settled)]

    def flow(self, flow: Flow) -> list[Event]:
        """Take a flow."""
        next_incoming = flow.next_incoming_id if flow.next_incoming_id is not None else 1
        in_flight = (self._next_outgoing - next_incoming) & UINT_MAX
        self._remote_window = flow.incoming_window - (in_flight if in_flight <= UINT_MAX // 2 else 0)
        while self._waiting and self._remote_window > 0:
            self._put(self._waiting.popleft())
        if flow.handle is None:
            if flow.echo:
                self.send_flow([])
            return [CreditChanged(link) for link in self._links_in.values() if isinstance(link, OutgoingLink)]
        link = self._links_in.get(flow.handle)
        if link is None and flow.handle not in self._detaching:
            raise AmqpError("amqp:session:unattached-handle", f"handle {flow.handle} is not attached")
        if isinstance(link, OutgoingLink):
            link.flow(flow)
            return [CreditChanged(link)]
        return []

    def disposition(self, disposition: Disposition) -> list[Event]:
        """Take what the peer says of deliveries; of its own there is nothing to be said."""
        if disposition.role != RECEIVER:
            return []
        first = disposition.first
        last = first if disposition.last is None else disposition.last
        if first == last:
            found = [first] if first in self.unsettled else []
        else:
            # The range is the peer's word; walk what is there.
            found = [number for number in self.unsettled if first <= number <= last]
        settled = disposition.settled is True
        outcome = read_state(disposition.state)
        events: list[Event] = []
        for number in found:
            delivery = self.unsettled[number]
            if settled or outcome.code:
                del self.unsettled[number]
                events.append(DeliveryUpdated(delivery.link, delivery, outcome, settled))
        return events

    # ------------------------------------------------------------ frames to the peer

    def send_flow(self, link_fields: list[Value]) -> None:
        """Send a flow: of the session alone, or with the fields of a link."""
        fields: list[Value] = [
            UInt(self._next_incoming),
            UInt(self._incoming_window),
            UInt(self._next_outgoing),
            UInt(OUTGOING_WINDOW),
            *link_fields,
        ]
        self.send(encode_composite(Flow.code, fields))

    def send_disposition(self, role: bool, delivery_id: int, state: Encoded) -> None:
        """Settle one delivery with a state."""
        number = encode(UInt(delivery_id))
        flag = _TRUE if role == RECEIVER else _FALSE
        self.send(_DISPOSITION_HEAD + encode_list((flag, number, number, _TRUE, state)))

    def send_message(
        self, link: OutgoingLink, head: bytes, tag: bytes, payload: bytes, settled: bool
    ) -> None:
        """Send a message in as many transfers as it needs, now or when the window opens."""
        delivery_id = self._next_delivery
        self._next_delivery = (delivery_id + 1) & UINT_MAX
        if not settled:
            self.unsettled[delivery_id] = OutgoingDelivery(link, delivery_id, tag)
        named = (head, encode(UInt(delivery_id)), encode(tag), _FORMAT_0, _TRUE if settled else _FALSE)
        room = self._payload_max
        if len(payload) <= room:
            self._put_or_wait(_TRANSFER_HEAD + encode_list((*named, _FALSE)) + payload)
            return
        for start in range(0, len(payload), room):
            more = _TRUE if start + room < len(payload) else _FALSE
            part = payload[start : start + room]
            self._put_or_wait(_TRANSFER_HEAD + encode_list((*named, more)) + part)

    def _put_or_wait(self, body: bytes) -> None:
        if self._waiting or self._remote_window <= 0:
            self._waiting.append(body)
        else:
            self._put(body)

    def _put(self, body: bytes) -> None:
        self._next_outgoing = (self._next_outgoing + 1) & UINT_MAX
        self._remote_window -= 1
        self.send(body)

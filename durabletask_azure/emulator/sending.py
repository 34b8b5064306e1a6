"""A link on which a client sends to a queue."""

from __future__ import annotations

from typing import Final

from durabletask_azure.emulator.amqp.events import MessageReceived
from durabletask_azure.emulator.amqp.links import IncomingLink
from durabletask_azure.emulator.amqp.message import BATCH_FORMAT, Content, batch_parts, read_content
from durabletask_azure.emulator.amqp.states import STATE_ACCEPTED, encode_rejected
from durabletask_azure.emulator.amqp.types import AmqpError, Encoded, ULong
from durabletask_azure.emulator.broker.queue import Queue
from durabletask_azure.emulator.context import Client
from durabletask_azure.emulator.faults import FaultKind, Operation

BATCH_BYTES: Final = "com.microsoft:max-message-batch-size"


class QueueSender:
    """A link on which a client sends.

    Args:
        client: whose link it is.
        link: the link.
        queue: where its messages go.
    """

    def __init__(self, client: Client, link: IncomingLink, queue: Queue) -> None:
        self.link = link
        self.address = queue.path
        self.name = link.name
        self.active_at = client.broker.clock()
        self._client = client
        self._queue = queue

    def accept(self) -> None:
        """Answer the attach."""
        limits = self._client.broker.limits
        self.link.accept({BATCH_BYTES: ULong(limits.batch_bytes_max)}, limits.message_bytes_max)

    def message(self, event: MessageReceived) -> None:
        """Take a message or batch, and answer it."""
        self.active_at = self._client.broker.clock()
        fault = self._client.broker.faults.take(Operation.SEND, self.address)
        if fault is None:
            state = self._take(event)
            if not event.settled:
                self.link.settle(event.delivery_id, state)
            return
        match fault.kind:
            case FaultKind.DELAY:
                self._client.broker.later(fault.seconds, lambda: self.message_late(event))
            case FaultKind.SWALLOW_REPLY:
                self._take(event)
            case FaultKind.DROP_CONNECTION:
                self._client.abort()
            case FaultKind.DROP_LINK:
                self._client.drop(self.link, fault.error)
            case FaultKind.REFUSE | FaultKind.THROTTLE:
                self.link.settle(event.delivery_id, encode_rejected(fault.error))

    def message_late(self, event: MessageReceived) -> None:
        """Take a message that a fault delayed; its link may have gone since."""
        state = self._take(event)
        if self.link.attached:
            self.link.settle(event.delivery_id, state)
            self._client.dirty()

    def _take(self, event: MessageReceived) -> Encoded:
        traffic = self._client.broker.traffic.of(self.address)
        traffic.sends += 1
        try:
            contents = _contents(event)
            self._queue.send(contents)
        except AmqpError as error:
            return encode_rejected(error)
        traffic.messages += len(contents)
        traffic.bytes += len(event.payload)
        return STATE_ACCEPTED


def _contents(event: MessageReceived) -> list[Content]:
    if event.message_format == BATCH_FORMAT:
        return [read_content(part) for part in batch_parts(event.payload)]
    return [read_content(event.payload)]

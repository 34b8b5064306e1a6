"""Requests and their answers: `$cbs` and `$management`."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

from durabletask_azure.emulator.amqp.events import DeliveryUpdated, MessageReceived
from durabletask_azure.emulator.amqp.links import IncomingLink, OutgoingLink
from durabletask_azure.emulator.amqp.message import Request, build_response, read_request
from durabletask_azure.emulator.amqp.states import STATE_ACCEPTED, encode_rejected
from durabletask_azure.emulator.amqp.types import AmqpError
from durabletask_azure.emulator.broker.queue import Queue
from durabletask_azure.emulator.context import Client
from durabletask_azure.emulator.faults import Fault, FaultKind, Operation
from durabletask_azure.emulator.management import answer, refusal

logger = logging.getLogger("durabletask_azure.emulator")

ACCEPTED: Final = 202


class ReplyLink:
    """A link on which a client gets answers."""

    def __init__(self, link: OutgoingLink, node: str) -> None:
        self.link = link
        self.node = node
        self.waiting: deque[bytes] = deque()
        self._sent = 0

    def pump(self) -> None:
        """Send what waits, as far as the client's credit goes."""
        while self.waiting and self.link.credit > 0 and self.link.attached:
            self._sent += 1
            self.link.send(self._sent.to_bytes(8, "big"), self.waiting.popleft(), settled=True)
        if self.link.drain and self.link.credit > 0:
            self.link.drained()

    def updated(self, event: DeliveryUpdated) -> None:
        """Answers are sent settled; there is nothing to hear of them."""


class Replies:
    """The links of a connection on which answers go.

    Args:
        waiting_max: how many answers may wait for credit on one.
    """

    def __init__(self, waiting_max: int) -> None:
        self._waiting_max = waiting_max
        self._links: list[ReplyLink] = []

    def add(self, link: ReplyLink) -> None:
        """Note a link."""
        self._links.append(link)

    def remove(self, link: ReplyLink) -> None:
        """Forget a link."""
        self._links.remove(link)

    def send(self, request_link: IncomingLink, node: str, reply_to: str, payload: bytes) -> None:
        """Send an answer: on a link of the same session and node, the one named if there are several.

        Raises:
            AmqpError: there is no link for it, or too many answers wait there.
        """
        links = [
            reply
            for reply in self._links
            if reply.node == node and reply.link.session is request_link.session
        ]
        if not links:
            raise AmqpError("amqp:not-found", f"there is no link for the answers of {node}")
        named = [reply for reply in links if reply_to and reply.link.target_address == reply_to]
        link = (named or links)[-1]
        if len(link.waiting) >= self._waiting_max:
            raise AmqpError("amqp:resource-limit-exceeded", f"{self._waiting_max} answers wait for credit")
        link.waiting.append(payload)
        link.pump()


class CbsRequests:
    """The link on which a client puts its claims."""

    def __init__(self, client: Client, link: IncomingLink, replies: Replies) -> None:
        self._client = client
        self._link = link
        self._replies = replies

    def message(self, event: MessageReceived) -> None:
        """Take a claim and answer it."""
        try:
            request = read_request(event.payload)
            properties = self._client.access.put_token(request)
            if properties["status-code"] != ACCEPTED:
                logger.info("%s: claim refused: %s", self._client.name, properties["status-description"])
            self._replies.send(self._link, "$cbs", request.reply_to, build_response(request, properties))
        except AmqpError as error:
            self._link.settle(event.delivery_id, encode_rejected(error))
            return
        if not event.settled:
            self._link.settle(event.delivery_id, STATE_ACCEPTED)


class ManagementRequests:
    """The link on which a client asks things of a queue."""

    def __init__(self, client: Client, link: IncomingLink, replies: Replies, queue: Queue, node: str) -> None:
        self._client = client
        self._link = link
        self._replies = replies
        self._queue = queue
        self._node = node

    def message(self, event: MessageReceived) -> None:
        """Take a request and answer it."""
        try:
            request = read_request(event.payload)
        except AmqpError as error:
            self._link.settle(event.delivery_id, encode_rejected(error))
            return
        fault = self._client.broker.faults.take(Operation.MANAGE, self._queue.path)
        if fault is None:
            self.answer(request)
        else:
            self._answer_wrongly(request, fault)
        # The answer goes first: the SDK's threads take frames from one another, and the one left over wakes the next of
        # them, which would else wait for its socket's timeout.
        if not event.settled and self._link.attached:
            self._link.settle(event.delivery_id, STATE_ACCEPTED)

    def answer(self, request: Request) -> None:
        """Do what a request asks, and answer it."""
        try:
            self._client.access.check(self._queue.path)
            properties, body = answer(self._queue, request, self._client.broker.limits)
        except AmqpError as error:
            properties, body = refusal(error), None
        self._send(request, build_response(request, properties, body))

    def _send(self, request: Request, payload: bytes) -> None:
        if not self._link.attached:
            return
        try:
            self._replies.send(self._link, self._node, request.reply_to, payload)
        except AmqpError as error:
            self._client.drop(self._link, error)
        self._client.dirty()

    def _answer_wrongly(self, request: Request, fault: Fault) -> None:
        match fault.kind:
            case FaultKind.DELAY:
                self._client.broker.later(fault.seconds, lambda: self.answer(request))
            case FaultKind.SWALLOW_REPLY:
                answer(self._queue, request, self._client.broker.limits)
            case FaultKind.DROP_CONNECTION:
                self._client.abort()
            case FaultKind.DROP_LINK:
                self._client.drop(self._link, fault.error)
            case FaultKind.REFUSE | FaultKind.THROTTLE:
                self._send(request, build_response(request, refusal(fault.error)))

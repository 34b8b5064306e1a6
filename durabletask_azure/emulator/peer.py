"""One connected client: its AMQP connection, and what its links do with the queues. No I/O happens here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeAlias

from durabletask_azure.emulator.amqp.connection import AmqpConnection, ConnectionSettings
from durabletask_azure.emulator.amqp.events import (
    ConnectionClosed,
    ConnectionOpened,
    CreditChanged,
    DeliveryUpdated,
    Event,
    LinkAttached,
    LinkDetached,
    MessageReceived,
)
from durabletask_azure.emulator.amqp.links import IncomingLink, OutgoingLink
from durabletask_azure.emulator.amqp.types import AmqpError
from durabletask_azure.emulator.broker.settings import LISTEN, SEND
from durabletask_azure.emulator.cbs import Access, path_of
from durabletask_azure.emulator.context import Broker
from durabletask_azure.emulator.faults import FaultKind, Operation
from durabletask_azure.emulator.receiving import SESSION_FILTER, QueueReceiver
from durabletask_azure.emulator.replying import CbsRequests, ManagementRequests, Replies, ReplyLink
from durabletask_azure.emulator.sending import QueueSender

logger = logging.getLogger("durabletask_azure.emulator")

CBS: Final = "$cbs"
MANAGEMENT: Final = "/$management"


Incoming: TypeAlias = QueueSender | CbsRequests | ManagementRequests
Outgoing: TypeAlias = QueueReceiver | ReplyLink


class Peer:
    """One connected client.

    Args:
        broker: what it talks to.
        name: how the log names it.
        dirty: called when there is output to send, perhaps because of another peer.
        abort: cuts the connection without a word.
    """

    def __init__(
        self, broker: Broker, name: str, dirty: Callable[[], None], abort: Callable[[], None]
    ) -> None:
        self.name = name
        self.closed = False
        self.congested = False
        self.opened_at = broker.clock()
        self.last_heard = self.opened_at
        self.last_sent = self.opened_at
        self.linked_at = self.opened_at
        self.dirty = dirty
        self.abort = abort
        self.broker = broker
        self.access = Access(
            broker.credentials, broker.clock, lambda path: broker.namespace.find(path).settings
        )
        self.connection = AmqpConnection(
            ConnectionSettings(
                frame_bytes_max=broker.limits.frame_bytes_max,
                idle_timeout_ms=round(broker.limits.idle_timeout_s * 1000),
            ),
            self.access.authenticate,
        )
        self._incoming: dict[IncomingLink, Incoming] = {}
        self._outgoing: dict[OutgoingLink, Outgoing] = {}
        self._replies = Replies(broker.limits.responses_max)

    # ------------------------------------------------------------ what the transport tells

    def receive(self, data: bytes) -> None:
        """Take bytes."""
        self.last_heard = self.broker.clock()
        for event in self.connection.receive(data):
            self._handle(event)
        self.dirty()

    def lost(self) -> None:
        """The connection is gone."""
        for event in self.connection.cut():
            self._handle(event)
        self.closed = True

    def fail(self, error: AmqpError | None) -> None:
        """Close the connection with an error."""
        for event in self.connection.fail(error):
            self._handle(event)
        self.dirty()

    def set_congested(self, congested: bool) -> None:
        """Hear that the transport takes no more for now, or again."""
        self.congested = congested
        if not congested:
            for receiver in list(self._outgoing.values()):
                receiver.pump()
            self.dirty()

    def upkeep(self, now: float) -> None:
        """Keep the connection alive, or close it if it is dead, unused, or no longer allowed."""
        limits, connection = self.broker.limits, self.connection
        if now - self.last_heard > limits.idle_timeout_s:
            self.fail(
                AmqpError(
                    "amqp:resource-limit-exceeded", f"nothing came for {limits.idle_timeout_s:g} seconds"
                )
            )
        elif self._incoming or self._outgoing:
            self.linked_at = now
            self._end_links(now)
        else:
            never = self.linked_at == self.opened_at
            allowed = limits.never_used_timeout_s if never else limits.unused_timeout_s
            if now - self.linked_at > allowed:
                self.fail(
                    AmqpError(
                        "amqp:connection:forced",
                        f"The connection did not have any active links in the past {allowed:g} seconds.",
                    )
                )
        timeout = connection.remote_idle_timeout_s
        if timeout and now - self.last_sent > timeout / 2:
            connection.keep_alive()
            self.dirty()

    def _end_links(self, now: float) -> None:
        idle_s = self.broker.limits.link_idle_timeout_s
        links = [*self._incoming.values(), *self._outgoing.values()]
        for handler in links:
            if isinstance(handler, (QueueSender, QueueReceiver)):
                try:
                    self.access.check(handler.address)
                    if now - handler.active_at > idle_s:
                        raise AmqpError(
                            "amqp:link:detach-forced",
                            f"The link '{handler.name}' is force detached. Idle timeout: {idle_s:g} seconds.",
                        )
                except AmqpError as error:
                    self.drop(handler.link, error)

    # ------------------------------------------------------------ events

    def _handle(self, event: Event) -> None:
        match event:
            case MessageReceived():
                handler = self._incoming.get(event.link)
                if handler is not None:
                    handler.message(event)
            case DeliveryUpdated():
                receiver = self._outgoing.get(event.link)
                if receiver is not None:
                    receiver.updated(event)
            case CreditChanged():
                receiver = self._outgoing.get(event.link)
                if receiver is not None:
                    receiver.pump()
            case LinkAttached():
                self._attach(event.link)
            case LinkDetached():
                self._forget(event.link)
            case ConnectionOpened():
                logger.debug("%s: open, for %s", self.name, self.connection.hostname)
            case ConnectionClosed():
                if event.error is not None:
                    logger.info("%s: closed: %s", self.name, event.error)
                self.closed = True

    def drop(self, link: IncomingLink | OutgoingLink, error: AmqpError | None) -> None:
        """Detach a link from our side."""
        link.detach(error)
        if error is not None:
            logger.info("%s: link %s detached: %s", self.name, link.name, error)
        self._forget(link)
        self.dirty()

    def _forget(self, link: IncomingLink | OutgoingLink) -> None:
        handler = (
            self._incoming.pop(link, None)
            if isinstance(link, IncomingLink)
            else self._outgoing.pop(link, None)
        )
        if isinstance(handler, QueueReceiver):
            handler.gone()
        elif isinstance(handler, ReplyLink):
            self._replies.remove(handler)

    def _attach(self, link: IncomingLink | OutgoingLink) -> None:
        address = link.target_address if isinstance(link, IncomingLink) else link.source_address
        fault = self.broker.faults.take(Operation.ATTACH, path_of(address))
        if fault is None or fault.kind is FaultKind.SWALLOW_REPLY:
            if fault is None:
                self.attach_now(link, address)
        elif fault.kind is FaultKind.DELAY:
            self.broker.later(fault.seconds, lambda: self.attach_now(link, address))
        elif fault.kind is FaultKind.DROP_CONNECTION:
            self.abort()
        else:
            self.refuse(link, fault.error)

    def attach_now(self, link: IncomingLink | OutgoingLink, address: str) -> None:
        """Answer an attach."""
        if self.closed:
            return
        path = path_of(address)
        try:
            if path == CBS or path.endswith(MANAGEMENT):
                self._attach_request(link, path)
            else:
                self.access.check(address, SEND if isinstance(link, IncomingLink) else LISTEN)
                self._attach_queue(link, path)
        except AmqpError as error:
            self.refuse(link, error)
        self.dirty()

    def refuse(self, link: IncomingLink | OutgoingLink, error: AmqpError) -> None:
        """Answer an attach with a refusal."""
        logger.info("%s: link %s refused: %s", self.name, link.name, error)
        link.refuse(error)
        self._forget(link)
        self.dirty()

    def _attach_request(self, link: IncomingLink | OutgoingLink, path: str) -> None:
        if isinstance(link, OutgoingLink):
            replies = ReplyLink(link, path)
            self._outgoing[link] = replies
            self._replies.add(replies)
            link.accept({}, {})
            return
        if path == CBS:
            self._incoming[link] = CbsRequests(self, link, self._replies)
        else:
            address = path.removesuffix(MANAGEMENT)
            self.access.check(address)
            queue = self.broker.namespace.find(address)
            self._incoming[link] = ManagementRequests(self, link, self._replies, queue, path)
        link.accept({}, self.broker.limits.message_bytes_max)

    def _attach_queue(self, link: IncomingLink | OutgoingLink, path: str) -> None:
        queue = self.broker.namespace.find(path)
        self.broker.traffic.of(queue.path).attaches += 1
        if isinstance(link, IncomingLink):
            sender = QueueSender(self, link, queue)
            self._incoming[link] = sender
            sender.accept()
            return
        queue.check_may_receive()
        receiver = QueueReceiver(self, link, queue)
        wants_session = SESSION_FILTER in link.filters
        if wants_session and not queue.settings.requires_sessions:
            raise AmqpError(
                "amqp:not-allowed",
                "A sessionful message receiver cannot be created on an entity that does not require sessions.",
            )
        if queue.settings.requires_sessions and not wants_session:
            raise AmqpError(
                "amqp:not-allowed",
                "It is not possible for an entity that requires sessions to create a non-sessionful message receiver.",
            )
        self._outgoing[link] = receiver
        receiver.start()

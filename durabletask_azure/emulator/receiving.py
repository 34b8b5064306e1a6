"""A link on which a client receives from a queue, or from one of its sessions."""

from __future__ import annotations

from typing import Final

from durabletask_azure.emulator.amqp.events import DeliveryUpdated
from durabletask_azure.emulator.amqp.links import OutgoingLink
from durabletask_azure.emulator.amqp.states import (
    ACCEPTED,
    MODIFIED,
    REJECTED,
    STATE_ACCEPTED,
    STATE_RELEASED,
    Outcome,
    encode_modified,
    encode_rejected,
)
from durabletask_azure.emulator.amqp.types import AmqpError, Described, Encoded, Value, text, whole
from durabletask_azure.emulator.broker import accepting, settling
from durabletask_azure.emulator.broker.queue import DESCRIPTION, REASON, Queue
from durabletask_azure.emulator.broker.sessions import Session
from durabletask_azure.emulator.broker.store import Lock, Message
from durabletask_azure.emulator.context import Client
from durabletask_azure.emulator.delivering import encode_message, ticks
from durabletask_azure.emulator.faults import FaultKind, Operation

SESSION_FILTER: Final = "com.microsoft:session-filter"
LOCKED_UNTIL: Final = "com.microsoft:locked-until-utc"
ACCEPT_TIMEOUT: Final = "com.microsoft:timeout"


class QueueReceiver:
    """A link on which a client receives; a `Receiver` of its queue.

    Args:
        client: whose link it is.
        link: the link.
        queue: what it receives from.
    """

    def __init__(self, client: Client, link: OutgoingLink, queue: Queue) -> None:
        self.link = link
        self.address = queue.path
        self.name = link.name
        self.active_at = client.broker.clock()
        self.peek_lock = not link.presettled
        self._client = client
        self._queue = queue
        self._unlocked_tags = 0
        self._serving = False

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Answer the attach, at once or when there is a session."""
        if SESSION_FILTER not in self.link.filters:
            self.link.accept({}, {})
            return
        wanted = self.link.filters[SESSION_FILTER]
        wanted = wanted.value if isinstance(wanted, Described) else wanted
        if wanted is not None and not isinstance(wanted, str):
            raise AmqpError("amqp:invalid-field", "a session id is a string")
        wait_ms = whole(self.link.properties.get(ACCEPT_TIMEOUT))
        wait_s = wait_ms / 1000 if wait_ms > 0 else self._client.broker.limits.session_wait_s
        accepting.accept_session(self._queue, self, wanted, wait_s)

    def gone(self) -> None:
        """The link is detached."""
        self.link.attached = False
        self._queue.leave(self)

    def pump(self) -> None:
        """Take what there is, as far as the client's credit goes."""
        if not self.link.attached:
            return
        self.active_at = self._client.broker.clock()
        try:
            self._queue.check_may_receive()
        except AmqpError as error:
            self._client.drop(self.link, error)
            return
        self._queue.request(self)
        if self.link.drain and self.link.credit > 0 and not self._stalled:
            self.link.drained()

    # ------------------------------------------------------------ what the queue tells

    @property
    def ready(self) -> bool:
        """Whether the client takes a message now."""
        return self.link.attached and self.link.credit > 0 and not self._stalled

    @property
    def _stalled(self) -> bool:
        return self._client.congested or self.link.session.congested

    def deliver(self, message: Message, lock: Lock | None) -> None:
        """Send a message."""
        if lock is None:
            self._unlocked_tags += 1
            tag = self._unlocked_tags.to_bytes(16, "big")
        else:
            tag = lock.token
        self._client.broker.traffic.of(self.address).deliveries += 1
        self.link.send(tag, encode_message(message, lock), settled=lock is None)
        self._client.dirty()

    def session_accepted(self, session: Session) -> None:
        """Answer the attach of a receiver that got its session."""
        filters: dict[str, Value] = {SESSION_FILTER: session.session_id}
        properties: dict[str, Value] = {LOCKED_UNTIL: ticks(session.locked_until)}
        self.link.accept(filters, properties)
        self._client.dirty()

    def ended(self, error: AmqpError) -> None:
        """Send the client away."""
        if self.link.attached:
            self._client.drop(self.link, error)
        else:
            self._client.refuse(self.link, error)

    # ------------------------------------------------------------ what the client tells

    def updated(self, event: DeliveryUpdated) -> None:
        """Settle a message as the client says, and confirm it."""
        self.active_at = self._client.broker.clock()
        fault = self._client.broker.faults.take(Operation.SETTLE, self.address)
        if fault is None:
            self._settle(event, reply=True)
            return
        match fault.kind:
            case FaultKind.DELAY:
                self._client.broker.later(fault.seconds, lambda: self._settle(event, reply=True))
            case FaultKind.SWALLOW_REPLY:
                self._settle(event, reply=False)
            case FaultKind.DROP_CONNECTION:
                self._client.abort()
            case FaultKind.DROP_LINK:
                self._client.drop(self.link, fault.error)
            case FaultKind.REFUSE | FaultKind.THROTTLE:
                self.link.settle(event.delivery, encode_rejected(fault.error))

    def _settle(self, event: DeliveryUpdated, *, reply: bool) -> None:
        self._client.broker.traffic.of(self.address).settlements += 1
        try:
            state = self._apply(event.delivery.tag, event.outcome)
        except AmqpError as error:
            state = encode_rejected(error)
        if reply and not event.settled and self.link.attached:
            self.link.settle(event.delivery, state)
            self._client.dirty()

    def _apply(self, tag: bytes, outcome: Outcome) -> Encoded:
        queue = self._queue
        changes = {text(name): value for name, value in outcome.annotations.items()}
        if outcome.code == ACCEPTED:
            settling.complete(queue, tag)
            return STATE_ACCEPTED
        if outcome.code == REJECTED:
            info = {text(name): value for name, value in outcome.info.items()}
            reason, description = info.pop(REASON, None), info.pop(DESCRIPTION, None)
            settling.dead_letter(
                queue,
                tag,
                reason if isinstance(reason, str) else None,
                description if isinstance(description, str) else outcome.description or None,
                info,
            )
            return encode_rejected()
        if outcome.code == MODIFIED and outcome.undeliverable_here:
            settling.defer(queue, tag, changes)
            return encode_modified(outcome.delivery_failed, undeliverable_here=True)
        if outcome.code == MODIFIED:
            settling.abandon(queue, tag, changes, counted=outcome.delivery_failed)
            return encode_modified(outcome.delivery_failed, undeliverable_here=False)
        settling.abandon(queue, tag, {}, counted=False)
        return STATE_RELEASED

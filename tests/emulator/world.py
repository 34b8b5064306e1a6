"""Queues in virtual time, and receivers that only remember: what the tests of the queues' rules play with."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4

from durabletask_azure.emulator.amqp.encode import encode, encode_composite, encode_map, encode_section
from durabletask_azure.emulator.amqp.message import Content, application_properties, read_content
from durabletask_azure.emulator.amqp.types import AmqpError, Symbol, Timestamp, UInt, Value
from durabletask_azure.emulator.broker.namespace import Namespace
from durabletask_azure.emulator.broker.queue import Queue
from durabletask_azure.emulator.broker.sessions import Session
from durabletask_azure.emulator.broker.settings import QueueSettings
from durabletask_azure.emulator.broker.store import Lock, Message

BEGIN: float = 1_800_000_000.0


def message(
    body: str = "",
    *,
    message_id: str = "",
    session_id: str | None = None,
    ttl_s: float | None = None,
    scheduled_at: float | None = None,
    properties: dict[str, Value] | None = None,
) -> bytes:
    """Encode a message as a client does."""
    payload = b""
    if ttl_s is not None:
        payload += encode_composite(0x70, [None, None, UInt(round(ttl_s * 1000))])
    if scheduled_at is not None:
        when = Timestamp(round(scheduled_at * 1000))
        payload += encode_section(
            0x72, encode_map([encode(Symbol("x-opt-scheduled-enqueue-time")), encode(when)])
        )
    fields: list[Value] = [None] * 11
    fields[0], fields[10] = message_id or None, session_id
    payload += encode_composite(0x73, fields)
    if properties:
        payload += encode_section(
            0x74, encode_map([encode(part) for pair in properties.items() for part in pair])
        )
    return payload + encode_section(0x75, encode(body.encode()))


def content(
    body: str = "",
    *,
    message_id: str = "",
    session_id: str | None = None,
    ttl_s: float | None = None,
    scheduled_at: float | None = None,
    properties: dict[str, Value] | None = None,
) -> Content:
    """Return a message as a queue takes it."""
    return read_content(
        message(
            body,
            message_id=message_id,
            session_id=session_id,
            ttl_s=ttl_s,
            scheduled_at=scheduled_at,
            properties=properties,
        )
    )


def body_of(content: Content) -> str:
    """Return the text of a message that `message` made."""
    start = content.bare.rindex(b"\x00\x53\x75")
    return content.bare[start + 5 :].decode()


@dataclass(eq=False)
class Recorder:
    """A receiver with so much credit."""

    credit: int = 0
    peek_lock: bool = True
    name: str = field(default_factory=lambda: uuid4().hex)
    got: list[tuple[Message, Lock | None]] = field(default_factory=list[tuple[Message, Lock | None]])
    session: Session | None = None
    error: AmqpError | None = None

    @property
    def ready(self) -> bool:
        return self.credit > 0

    def deliver(self, message: Message, lock: Lock | None) -> None:
        self.credit -= 1
        self.got.append((message, lock))

    def session_accepted(self, session: Session) -> None:
        self.session = session

    def ended(self, error: AmqpError) -> None:
        self.error = error

    @property
    def bodies(self) -> list[str]:
        return [body_of(message.content) for message, _ in self.got]

    def token(self, index: int = -1) -> bytes:
        lock = self.got[index][1]
        assert lock is not None
        return lock.token


class World:
    """A namespace whose time passes only in `advance`."""

    def __init__(self) -> None:
        self.now = BEGIN
        self._due: dict[Queue, float] = {}
        self._prefixes = 0
        self.namespace = Namespace(lambda: self.now, self._alarm, self._prefix)

    def _prefix(self) -> bytes:
        self._prefixes += 1
        return self._prefixes.to_bytes(8, "big")

    def _alarm(self, queue: Queue, due: float) -> None:
        self._due[queue] = min(due, self._due.get(queue, due))

    def forget(self) -> None:
        """Forget what is due, of queues that are gone."""
        self._due.clear()

    def queue(self, name: str = "q", **settings: object) -> Queue:
        """Create a queue."""
        return self.namespace.create(QueueSettings(name, **settings)).queue  # pyright: ignore[reportArgumentType]

    def advance(self, seconds: float) -> None:
        """Let time pass; everything that becomes due is done at its time."""
        end = self.now + seconds
        while self._due and min(self._due.values()) <= end:
            queue = min(self._due, key=lambda candidate: self._due[candidate])
            self.now = max(self.now, self._due.pop(queue))
            queue.tick()
        self.now = end

    def receive(self, queue: Queue, count: int = 1, *, peek_lock: bool = True) -> Recorder:
        """Receive what there is now, up to a count."""
        receiver = Recorder(count, peek_lock)
        queue.request(receiver)
        receiver.credit = 0
        return receiver


def properties_of(message: Message) -> dict[str, Value]:
    """Return a message's application properties."""
    return properties_of_content(message.content)


def properties_of_content(content: Content) -> dict[str, Value]:
    """Return the application properties a sender gave."""
    return application_properties(content)

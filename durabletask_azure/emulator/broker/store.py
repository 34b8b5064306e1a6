"""Messages in a queue, the order they are handed out in, and the locks on them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol

from durabletask_azure.emulator.amqp.message import Content
from durabletask_azure.emulator.amqp.types import AmqpError

if TYPE_CHECKING:
    from durabletask_azure.emulator.broker.sessions import Session

NEVER: Final = float("inf")


class MessageState(IntEnum):
    """The states a receiver is told (`x-opt-message-state`)."""

    ACTIVE = 0
    DEFERRED = 1
    SCHEDULED = 2


@dataclass(slots=True, eq=False)
class Message:
    """A message in a queue.

    Attributes:
        seq: its sequence number.
        content: what the sender made.
        enqueued_at: when it became active, or was scheduled; seconds since 1970.
        enqueued_seq: the number it had where it was first sent, 0 if that was here.
        expires_at: when its time to live ends, `NEVER` if it does not.
        state: active, deferred or scheduled.
        scheduled_at: when a scheduled message becomes active.
        delivery_count: how often its delivery failed.
        lock: the lock on it.
    """

    seq: int
    content: Content
    enqueued_at: float
    enqueued_seq: int = 0
    expires_at: float = NEVER
    state: MessageState = MessageState.ACTIVE
    scheduled_at: float | None = None
    delivery_count: int = 0
    lock: Lock | None = None


@dataclass(slots=True, eq=False)
class Lock:
    """A lock on a message.

    Attributes:
        token: its 16 bytes, which are the delivery tag.
        message: the message.
        session: the session whose lock it lives by, None in a queue without sessions.
        until: when it ends, in seconds since 1970; of no meaning in a session, whose own end counts.
    """

    token: bytes
    message: Message
    session: Session | None
    until: float

    @property
    def expires_at(self) -> float:
        """When it ends."""
        return self.until if self.session is None else self.session.locked_until


class Receiver(Protocol):
    """What a queue hands messages to: a link. It is hashable by identity."""

    @property
    def ready(self) -> bool:
        """Whether it takes a message now."""
        ...

    @property
    def peek_lock(self) -> bool:
        """Whether messages are locked for it, rather than gone when they are handed out."""
        ...

    def deliver(self, message: Message, lock: Lock | None) -> None:
        """Take a message; with a lock if it is locked for this receiver."""
        ...

    def session_accepted(self, session: Session) -> None:
        """Hear that it holds a session now."""
        ...

    def ended(self, error: AmqpError) -> None:
        """Hear that it gets nothing more: no session, its session lost, the queue gone."""
        ...


class Lane:
    """The active, unlocked messages of a queue or session, by sequence number.

    An entry whose message has gone (expired, received by number) is skipped when its turn comes.
    """

    __slots__ = ("_heap", "_messages")

    def __init__(self, messages: dict[int, Message]) -> None:
        self._messages = messages
        self._heap: list[int] = []

    def push(self, message: Message) -> None:
        """Add a message, at the place its number gives it."""
        heapq.heappush(self._heap, message.seq)

    def first(self) -> Message | None:
        """Return the next message without taking it."""
        heap = self._heap
        while heap:
            message = self._messages.get(heap[0])
            if message is not None and message.state is MessageState.ACTIVE and message.lock is None:
                return message
            heapq.heappop(heap)
        return None

    def pop(self) -> Message | None:
        """Take the next message."""
        message = self.first()
        if message is not None:
            heapq.heappop(self._heap)
        return message


class DueHeap:
    """Messages by a time. Entries of messages that have gone are dropped when they are most of it."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: list[tuple[float, int]] = []

    def push(self, due: float, seq: int) -> None:
        """Add a message."""
        heapq.heappush(self._entries, (due, seq))

    @property
    def next_due(self) -> float:
        """The earliest time, `NEVER` if there is none; it may be of a message that has gone."""
        return self._entries[0][0] if self._entries else NEVER

    def take(self, now: float) -> Iterator[int]:
        """Take the numbers whose time has come."""
        while self._entries and self._entries[0][0] <= now:
            yield heapq.heappop(self._entries)[1]

    def compact(self, messages: dict[int, Message]) -> None:
        """Drop what has gone, if that is worth the walk."""
        if len(self._entries) > 2 * len(messages) + 1000:
            self._entries = [entry for entry in self._entries if entry[1] in messages]
            heapq.heapify(self._entries)


@dataclass(slots=True)
class Locks:
    """The message locks of a queue, by token. Those outside sessions stand in the order they end."""

    prefix: bytes
    by_token: dict[bytes, Lock] = field(default_factory=dict[bytes, Lock])
    _expiring: dict[bytes, Lock] = field(default_factory=dict[bytes, Lock])
    _issued: int = 0

    def issue(self, message: Message, session: Session | None, until: float) -> Lock:
        """Lock a message."""
        self._issued += 1
        token = self.prefix + self._issued.to_bytes(8, "big")
        lock = Lock(token, message, session, until)
        message.lock = lock
        self.by_token[token] = lock
        if session is None:
            self._expiring[token] = lock
        else:
            session.locks[token] = lock
        return lock

    def release(self, lock: Lock) -> None:
        """Take a lock off its message."""
        lock.message.lock = None
        self.by_token.pop(lock.token, None)
        if lock.session is None:
            self._expiring.pop(lock.token, None)
        else:
            lock.session.locks.pop(lock.token, None)

    def renew(self, lock: Lock, until: float) -> None:
        """Let a lock last longer."""
        self._expiring.pop(lock.token)
        lock.until = until
        self._expiring[lock.token] = lock

    def reorder(self) -> None:
        """Put the locks in the order they end again, after locks have begun to last longer or shorter."""
        self._expiring = dict(sorted(self._expiring.items(), key=lambda entry: entry[1].until))

    @property
    def next_due(self) -> float:
        """When the next lock outside sessions ends."""
        for lock in self._expiring.values():
            return lock.until
        return NEVER

    def expired(self, now: float) -> list[Lock]:
        """Return the locks outside sessions that have ended."""
        ended: list[Lock] = []
        for lock in self._expiring.values():
            if lock.until > now:
                break
            ended.append(lock)
        return ended


@dataclass(slots=True)
class DuplicateWindow:
    """The message ids of the last while, each with the time it is forgotten, in that order."""

    ids: dict[str, float] = field(default_factory=dict[str, float])

    def seen(self, message_id: str, now: float) -> bool:
        """Tell whether an id is in the window."""
        return self.ids.get(message_id, 0.0) > now

    def add(self, message_id: str, until: float) -> None:
        """Remember an id."""
        self.ids.pop(message_id, None)
        self.ids[message_id] = until

    def forget(self, now: float) -> list[str]:
        """Drop and return the ids whose time is over."""
        gone: list[str] = []
        for message_id, until in self.ids.items():
            if until > now:
                break
            gone.append(message_id)
        for message_id in gone:
            del self.ids[message_id]
        return gone

    @property
    def next_due(self) -> float:
        """When the next id is forgotten."""
        for until in self.ids.values():
            return until
        return NEVER

"""A queue or sub-queue: what is in it, who gets it, and when.

Pure: the time comes from a clock that is given, timers are asked for, and every change goes to a journal. A method
that hands something out or changes it calls receivers before it returns; nothing waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from durabletask_azure.emulator.amqp.message import Content, change_properties
from durabletask_azure.emulator.amqp.types import AmqpError, Value
from durabletask_azure.emulator.broker.around import Surroundings, Usage
from durabletask_azure.emulator.broker.errors import no_session_id, queue_full
from durabletask_azure.emulator.broker.sessions import Session, Sessions
from durabletask_azure.emulator.broker.settings import (
    DISABLED,
    RECEIVE_DISABLED,
    SEND_DISABLED,
    QueueSettings,
)
from durabletask_azure.emulator.broker.store import (
    NEVER,
    DueHeap,
    DuplicateWindow,
    Lane,
    Lock,
    Locks,
    Message,
    MessageState,
    Receiver,
)

MEGABYTE: Final = 1_048_576
REASON: Final = "DeadLetterReason"
DESCRIPTION: Final = "DeadLetterErrorDescription"


class Queue:
    """One queue or sub-queue.

    Args:
        path: its address, such as `orders` or `orders/$deadletterqueue`.
        settings: how it behaves.
        around: clock, journal and timers.
        usage: the bytes it shares with its sub-queues.
        dead_letters: the sub-queue for messages that failed; None in a sub-queue.
    """

    def __init__(
        self,
        path: str,
        settings: QueueSettings,
        around: Surroundings,
        usage: Usage,
        dead_letters: Queue | None = None,
    ) -> None:
        self.path = path
        self.settings = settings
        self.dead_letters = dead_letters
        self.usage = usage
        self.messages: dict[int, Message] = {}
        self.sessions = Sessions(self.messages)
        self.locks = Locks(around.token_prefix())
        self.duplicates = DuplicateWindow()
        self.last_seq = 0
        self.accessed_at = 0.0
        self.closed: AmqpError | None = None
        self.around = around
        self._lane = Lane(self.messages)
        self._waiting: dict[Receiver, None] = {}
        self._scheduled = DueHeap()
        self._expiring = DueHeap()

    # ------------------------------------------------------------ sending

    def send(self, contents: list[Content]) -> list[int]:
        """Take messages, all or none; scheduled ones wait for their time, duplicates vanish.

        Returns:
            The sequence number of each; a duplicate gets the next number, which no message has.

        Raises:
            AmqpError: the queue does not take them.
        """
        now = self.around.clock()
        self.accessed_at = now
        self._check_may_send(contents)
        numbers: list[int] = []
        sessions: dict[Session, None] = {}
        for content in contents:
            if self._is_duplicate(content, now):
                numbers.append(self._next_seq())
            elif content.scheduled_ms is not None and content.scheduled_ms / 1000 > now:
                numbers.append(self._schedule(content, now))
            elif self.settings.forward_to and self.around.forward(self.settings.forward_to, content):
                numbers.append(0)
            else:
                message = self._append(content, now)
                numbers.append(message.seq)
                if self.settings.requires_sessions:
                    sessions[self.sessions.get(content.session_id or "")] = None
        for session in sessions:
            self.serve_session(session)
        self.serve()
        return numbers

    def _check_may_send(self, contents: list[Content]) -> None:
        if self.closed is not None:
            raise self.closed
        if self.settings.status in (DISABLED, SEND_DISABLED):
            raise AmqpError("com.microsoft:entity-disabled", f"the queue {self.path} does not take messages")
        size = 0
        for content in contents:
            size += content.size
            if self.settings.requires_sessions and content.session_id is None:
                raise no_session_id()
        if self.usage.size_bytes + size > self.settings.size_mb_max * MEGABYTE:
            raise queue_full(self.path, self.usage.size_bytes, self.settings.size_mb_max * MEGABYTE)

    def _is_duplicate(self, content: Content, now: float) -> bool:
        if not self.settings.detects_duplicates or not content.message_id:
            return False
        if self.duplicates.seen(content.message_id, now):
            return True
        until = now + self.settings.duplicates_s
        self.duplicates.add(content.message_id, until)
        self.around.journal.seen(self.path, content.message_id, until)
        self.around.alarm(self, until)
        return False

    def _next_seq(self) -> int:
        self.last_seq += 1
        return self.last_seq

    def _append(self, content: Content, now: float) -> Message:
        """Put a message at the end, active."""
        message = Message(self._next_seq(), content, now, expires_at=self._expiry(content, now))
        if content.scheduled_ms is not None:
            message.scheduled_at = content.scheduled_ms / 1000
        self._add(message)
        self.around.journal.put(self.path, message)
        return message

    def _expiry(self, content: Content, now: float) -> float:
        ttl = self.settings.ttl_s
        if content.ttl_ms is not None:
            ttl = min(ttl, content.ttl_ms / 1000)
        return now + ttl

    def _schedule(self, content: Content, now: float) -> int:
        assert content.scheduled_ms is not None
        message = Message(self._next_seq(), content, now, state=MessageState.SCHEDULED)
        message.scheduled_at = content.scheduled_ms / 1000
        self._add(message)
        self.around.journal.put(self.path, message)
        return message.seq

    def _add(self, message: Message) -> None:
        """Put a message where its state says."""
        self.messages[message.seq] = message
        self.usage.size_bytes += message.content.size
        if self.settings.requires_sessions:
            self.sessions.get(message.content.session_id or "").size += 1
        if message.state is MessageState.SCHEDULED:
            due = message.scheduled_at or 0.0
            self._scheduled.push(due, message.seq)
            self.around.alarm(self, due)
        elif message.expires_at != NEVER:
            self._expiring.push(message.expires_at, message.seq)
            self.around.alarm(self, message.expires_at)
        if message.state is MessageState.ACTIVE:
            self._enlist(message)

    def _enlist(self, message: Message) -> None:
        if self.settings.requires_sessions:
            session = self.sessions.get(message.content.session_id or "")
            session.lane.push(message)
            self.sessions.offer(session)
        else:
            self._lane.push(message)

    def restore(self, message: Message) -> None:
        """Take back a message that was kept on disk."""
        self.last_seq = max(self.last_seq, message.seq)
        self._add(message)

    # ------------------------------------------------------------ receiving

    def check_may_receive(self) -> None:
        """Check that the queue hands out messages.

        Raises:
            AmqpError: it is disabled or deleted.
        """
        if self.closed is not None:
            raise self.closed
        if self.settings.status in (DISABLED, RECEIVE_DISABLED):
            raise AmqpError(
                "com.microsoft:entity-disabled", f"the queue {self.path} does not hand out messages"
            )

    def request(self, receiver: Receiver) -> None:
        """Hand a receiver what it takes, now and whenever there is more."""
        self.accessed_at = self.around.clock()
        session = self.sessions.of(receiver)
        if session is not None:
            self.serve_session(session)
        elif not self.settings.requires_sessions and receiver.ready:
            self._waiting[receiver] = None
            self.serve()

    def leave(self, receiver: Receiver) -> None:
        """Let a receiver go. Its session is free at once; locks on single messages last."""
        self._waiting.pop(receiver, None)
        self.sessions.leave(receiver)
        session = self.sessions.of(receiver)
        if session is not None:
            self.release_session(session, counted=False)

    def serve(self) -> None:
        """Hand free messages to the receivers that wait, in turn."""
        waiting = self._waiting
        while waiting:
            receiver = next(iter(waiting))
            if not receiver.ready:
                del waiting[receiver]
                continue
            message = self._next(self._lane)
            if message is None:
                return
            if len(waiting) > 1:
                # Round robin.
                del waiting[receiver]
                waiting[receiver] = None
            self._hand_out(message, receiver, None)

    def serve_session(self, session: Session) -> None:
        """Hand a session to who waits for one, and its messages to who holds it."""
        if session.holder is None:
            self.sessions.offer(session)
            self.serve_waiting()
        while session.holder is not None and session.holder.ready:
            message = self._next(session.lane)
            if message is None:
                return
            self._hand_out(message, session.holder, session)

    def _next(self, lane: Lane) -> Message | None:
        """Take the next message that has not expired."""
        now = self.around.clock()
        while (message := lane.pop()) is not None:
            if message.expires_at > now:
                return message
            self.expire(message)
        return None

    def _hand_out(self, message: Message, receiver: Receiver, session: Session | None) -> None:
        if receiver.peek_lock:
            receiver.deliver(message, self.lock(message, session))
        else:
            self.remove(message)
            receiver.deliver(message, None)

    def lock_by_number(self, message: Message) -> Lock:
        """Lock a deferred message for who asked for it by number."""
        session = None
        if self.settings.requires_sessions:
            session = self.sessions.get(message.content.session_id or "")
        return self.lock(message, session)

    def lock(self, message: Message, session: Session | None) -> Lock:
        """Lock a message for the time the settings give."""
        until = self.around.clock() + self.settings.lock_s
        lock = self.locks.issue(message, session, until)
        if session is None:
            self.around.alarm(self, until)
        return lock

    # ------------------------------------------------------------ sessions and locks

    def serve_waiting(self) -> None:
        """Give free sessions to the receivers that wait for one."""
        while (session := self.sessions.next_free()) is not None:
            receiver = self.sessions.next_waiting()
            if receiver is None:
                return
            self.grant(session, receiver)

    def grant(self, session: Session, receiver: Receiver) -> None:
        """Give a free session to a receiver."""
        until = self.around.clock() + self.settings.lock_s
        self.sessions.hold(session, receiver, until)
        self.around.alarm(self, until)
        receiver.session_accepted(session)

    def release_session(self, session: Session, *, counted: bool) -> None:
        """Take a session from its holder; its locked messages are free again.

        Args:
            session: the session.
            counted: whether that counts as a failed delivery of those messages: it does when the lock has ended, it
                does not when the receiver has closed.
        """
        for lock in list(session.locks.values()):
            self.unlock(lock, counted=counted)
        self.sessions.release(session)
        self.serve_waiting()

    def change(self, message: Message, changes: dict[str, Value]) -> None:
        """Set application properties of a message."""
        if changes:
            self.usage.size_bytes -= message.content.size
            message.content = change_properties(message.content, changes)
            self.usage.size_bytes += message.content.size
            self.around.journal.put(self.path, message)

    def unlock(self, lock: Lock, *, counted: bool) -> None:
        """End a lock without settling its message, which goes back to its place, or on if it has failed too often."""
        message = lock.message
        self.locks.release(lock)
        if counted:
            message.delivery_count += 1
            if self.dead_letters is not None and message.delivery_count >= self.settings.deliveries_max:
                self.move_to_dead_letters(
                    message,
                    "MaxDeliveryCountExceeded",
                    f"Message could not be consumed after {message.delivery_count} delivery attempts.",
                    {},
                )
                return
            self.around.journal.update(self.path, message)
        if message.expires_at <= self.around.clock():
            self.expire(message)
        elif message.state is MessageState.ACTIVE:
            self._enlist(message)

    def expire(self, message: Message) -> None:
        """Drop or dead-letter a message whose time to live is over."""
        if self.settings.dead_letters_expired and self.dead_letters is not None:
            self.move_to_dead_letters(
                message, "TTLExpiredException", "The message expired and was dead lettered.", {}
            )
        else:
            self.remove(message)

    def move_to_dead_letters(
        self, message: Message, reason: str | None, description: str | None, changes: dict[str, Value]
    ) -> None:
        """Move a message that is not locked to the dead-letter queue; from a sub-queue it is dropped."""
        self.remove(message)
        named = dict(changes)
        if reason is not None:
            named[REASON] = reason
        if description is not None:
            named[DESCRIPTION] = description
        content = change_properties(message.content, named) if named else message.content
        target = self.settings.forward_dead_letters_to
        if target and self.around.forward(target, replace(content, scheduled_ms=None)):
            return
        if self.dead_letters is not None:
            self.dead_letters.take_dead_letter(message, content)

    def take_dead_letter(self, message: Message, content: Content) -> None:
        """Take a message of the queue this is the sub-queue of."""
        dead = Message(
            self._next_seq(),
            content,
            message.enqueued_at,
            enqueued_seq=message.enqueued_seq or message.seq,
            delivery_count=message.delivery_count,
        )
        self._add(dead)
        self.around.journal.put(self.path, dead)
        self.serve()

    def remove(self, message: Message) -> None:
        """Take a message out."""
        if self.messages.pop(message.seq, None) is None:
            return
        if message.lock is not None:
            self.locks.release(message.lock)
        self.usage.size_bytes -= message.content.size
        self.around.journal.remove(self.path, message.seq)
        if self.settings.requires_sessions:
            session = self.sessions.get(message.content.session_id or "")
            session.size -= 1
            self.sessions.drop_if_empty(session)

    # ------------------------------------------------------------ time

    def tick(self) -> None:
        """Do what has become due, and ask to be called again for the next of it."""
        now = self.around.clock()
        for seq in self._scheduled.take(now):
            self._activate(self.messages.get(seq), now)
        for lock in self.locks.expired(now):
            self.unlock(lock, counted=True)
        for session in self.sessions.expired(now):
            holder = session.holder
            self.release_session(session, counted=True)
            if holder is not None:
                self.sessions.lose(holder, session.session_id, now)
        self.sessions.end_lost(now)
        self._expire_due(self._expiring.take(now))
        self.sessions.end_waits(now)
        if gone := self.duplicates.forget(now):
            self.around.journal.forget(self.path, gone)
        self._scheduled.compact(self.messages)
        self._expiring.compact(self.messages)
        self.serve()
        due = min(
            self._scheduled.next_due,
            self._expiring.next_due,
            self.locks.next_due,
            self.sessions.next_due,
            self.duplicates.next_due,
        )
        if due != NEVER:
            self.around.alarm(self, due)

    def _activate(self, message: Message | None, now: float) -> None:
        """Make a scheduled message active: as if it were sent now, with a new number."""
        if message is None or message.state is not MessageState.SCHEDULED:
            return
        self.remove(message)
        if self.settings.forward_to and self.around.forward(self.settings.forward_to, message.content):
            return
        self._append(message.content, now)
        if self.settings.requires_sessions:
            self.serve_session(self.sessions.get(message.content.session_id or ""))

    def _expire_due(self, numbers: Iterable[int]) -> None:
        for seq in numbers:
            message = self.messages.get(seq)
            # A locked one expires when its lock has ended without a word.
            if message is not None and message.lock is None:
                self.expire(message)

    def close(self, error: AmqpError) -> None:
        """Send every receiver away: the queue is deleted or disabled."""
        for receiver in [*self._waiting, *self.sessions.holders()]:
            self.leave(receiver)
            receiver.ended(error)

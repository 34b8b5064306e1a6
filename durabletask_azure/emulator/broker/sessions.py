"""The sessions of a queue: who holds which, who waits for one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from durabletask_azure.emulator.amqp.types import AmqpError
from durabletask_azure.emulator.broker.errors import session_lock_lost
from durabletask_azure.emulator.broker.store import NEVER, Lane, Lock, Message, Receiver

# The lock of a session ends to the moment, but its link is detached a little later: a receiver that waits as long as
# the lock lasts then ends its wait in peace, which the SDK's test `..._receive_handler_receiveanddelete` asks for.
LOST_DETACH_S: Final = 2.0


@dataclass(slots=True, eq=False)
class Session:
    """A session: messages with one session id.

    Attributes:
        session_id: the id.
        lane: its messages that can be handed out.
        state: what `set-session-state` left, None if nothing.
        state_at: when that was, in seconds since 1970.
        holder: the receiver that has it.
        locked_until: when the holder's lock ends.
        locks: the locks on its messages, by token.
        size: how many of its messages are in the queue.
    """

    session_id: str
    lane: Lane
    state: bytes | None = None
    state_at: float = 0.0
    holder: Receiver | None = None
    locked_until: float = 0.0
    locks: dict[bytes, Lock] = field(default_factory=dict[bytes, Lock])
    size: int = 0


class Sessions:
    """All sessions of a queue.

    Invariant: `_free` has, among others, every session that is not held and has a message to hand out; those others
    are dropped when they are met.
    """

    def __init__(self, messages: dict[int, Message]) -> None:
        self._messages = messages
        self._by_id: dict[str, Session] = {}
        self._free: dict[Session, None] = {}
        self._held: dict[Receiver, Session] = {}
        self._waiting: dict[Receiver, float] = {}
        self._lost: dict[Receiver, tuple[float, str]] = {}

    def get(self, session_id: str) -> Session:
        """Return a session, new if it must be."""
        session = self._by_id.get(session_id)
        if session is None:
            session = self._by_id[session_id] = Session(session_id, Lane(self._messages))
        return session

    def find(self, session_id: str) -> Session | None:
        """Return a session if there is one."""
        return self._by_id.get(session_id)

    def of(self, receiver: Receiver) -> Session | None:
        """Return the session a receiver holds."""
        return self._held.get(receiver)

    def all(self) -> list[Session]:
        """Return every session known."""
        return list(self._by_id.values())

    def holders(self) -> list[Receiver]:
        """Return the receivers that hold a session or wait for one."""
        return [*self._held, *self._waiting, *self._lost]

    def drop_if_empty(self, session: Session) -> None:
        """Forget a session that has nothing: no message, no state, no holder."""
        if session.size == 0 and session.state is None and session.holder is None:
            self._by_id.pop(session.session_id, None)
            self._free.pop(session, None)

    # ------------------------------------------------------------ locks

    def hold(self, session: Session, receiver: Receiver, until: float) -> None:
        """Give a session to a receiver."""
        self._free.pop(session, None)
        session.holder = receiver
        session.locked_until = until
        self._held[receiver] = session

    def renew(self, session: Session, until: float) -> None:
        """Let the holder's lock last longer."""
        session.locked_until = until
        if session.holder is not None:
            # The order in which locks end.
            self._held[session.holder] = self._held.pop(session.holder)

    def release(self, session: Session) -> None:
        """Take a session from its holder."""
        if session.holder is not None:
            self._held.pop(session.holder, None)
        session.holder = None
        session.locked_until = 0.0
        self.offer(session)
        self.drop_if_empty(session)

    def expired(self, now: float) -> list[Session]:
        """Return the sessions whose lock has ended."""
        return [session for session in self._held.values() if session.locked_until <= now]

    # ------------------------------------------------------------ who comes next

    def offer(self, session: Session) -> None:
        """Note that a session may have messages for somebody."""
        if session.holder is None and session.lane.first() is not None:
            self._free[session] = None

    def next_free(self) -> Session | None:
        """Return a session that has messages and no holder, the one that has been free longest."""
        while self._free:
            session = next(iter(self._free))
            if session.holder is None and session.lane.first() is not None:
                return session
            del self._free[session]
        return None

    def wait(self, receiver: Receiver, until: float) -> None:
        """Put a receiver in the line for the next free session."""
        self._waiting[receiver] = until

    def next_waiting(self) -> Receiver | None:
        """Take the receiver that is first in that line."""
        for receiver in self._waiting:
            del self._waiting[receiver]
            return receiver
        return None

    def leave(self, receiver: Receiver) -> None:
        """Take a receiver out of the line."""
        self._waiting.pop(receiver, None)
        self._lost.pop(receiver, None)

    def lose(self, receiver: Receiver, session_id: str, now: float) -> None:
        """Note that a receiver's session has been taken from it, which its link hears a moment later."""
        self._lost[receiver] = (now + LOST_DETACH_S, session_id)

    def end_lost(self, now: float) -> None:
        """Send away the receivers that have lost their session."""
        for receiver in [receiver for receiver, (due, _) in self._lost.items() if due <= now]:
            _, session_id = self._lost.pop(receiver)
            receiver.ended(session_lock_lost(session_id))

    def end_waits(self, now: float) -> None:
        """Refuse those who have waited long enough."""
        late = [receiver for receiver, until in self._waiting.items() if until <= now]
        for receiver in late:
            del self._waiting[receiver]
            receiver.ended(
                AmqpError("com.microsoft:timeout", "no session had a message within the time allowed")
            )

    @property
    def next_due(self) -> float:
        """When the next session lock or wait ends."""
        due = min((session.locked_until for session in self._held.values()), default=NEVER)
        due = min(due, min((due for due, _ in self._lost.values()), default=NEVER))
        return min(due, min(self._waiting.values(), default=NEVER))

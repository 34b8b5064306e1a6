"""Sessions of a queue: accepting one, keeping it, and its state."""

from __future__ import annotations

from durabletask_azure.emulator.amqp.types import AmqpError
from durabletask_azure.emulator.broker.errors import session_lock_lost
from durabletask_azure.emulator.broker.queue import Queue
from durabletask_azure.emulator.broker.sessions import Session
from durabletask_azure.emulator.broker.store import Receiver


def accept_session(queue: Queue, receiver: Receiver, session_id: str | None, wait_s: float) -> None:
    """Give a receiver a session: the one it names at once or never, or the next free one when there is one.

    The receiver hears of it through `session_accepted` or `ended`.
    """
    now = queue.around.clock()
    queue.accessed_at = now
    if session_id is None:
        queue.sessions.wait(receiver, now + wait_s)
        queue.around.alarm(queue, now + wait_s)
        queue.serve_waiting()
        return
    session = queue.sessions.get(session_id)
    if session.holder is not None and session.locked_until <= now:
        queue.release_session(session, counted=True)
        session = queue.sessions.get(session_id)
    if session.holder is not None:
        receiver.ended(
            AmqpError(
                "com.microsoft:session-cannot-be-locked",
                f"The requested session '{session_id}' cannot be accepted. It may be locked by another receiver.",
            )
        )
        return
    queue.grant(session, receiver)


def held_session(queue: Queue, session_id: str, link_name: str | None) -> Session:
    """Return a session that is held, by the link of a name if one is given.

    Raises:
        AmqpError: it is not held so.
    """
    session = queue.sessions.find(session_id)
    now = queue.around.clock()
    holder = None if session is None else session.holder
    if session is None or holder is None or session.locked_until <= now:
        raise session_lock_lost(session_id)
    if link_name is not None and getattr(holder, "name", link_name) != link_name:
        raise session_lock_lost(session_id)
    return session


def renew_session(queue: Queue, session: Session) -> float:
    """Let a held session's lock last its full time from now; return its end."""
    until = queue.around.clock() + queue.settings.lock_s
    queue.sessions.renew(session, until)
    return until


def set_session_state(queue: Queue, session_id: str, state: bytes | None) -> None:
    """Keep a state with a session; None takes it away."""
    now = queue.around.clock()
    session = queue.sessions.get(session_id)
    session.state, session.state_at = state, now
    queue.around.journal.session_state(queue.path, session_id, state, now)
    queue.sessions.drop_if_empty(session)

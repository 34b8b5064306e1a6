"""The rules of a queue with sessions, in virtual time."""

from __future__ import annotations

import pytest

from durabletask_azure.emulator.amqp.types import AmqpError
from durabletask_azure.emulator.broker import accepting, browse, settling
from durabletask_azure.emulator.broker.queue import Queue
from durabletask_azure.emulator.broker.sessions import LOST_DETACH_S
from tests.emulator.world import Recorder, World, content


@pytest.fixture
def world() -> World:
    return World()


def accept(queue: Queue, session_id: str | None, credit: int = 0, wait_s: float = 60.0) -> Recorder:
    receiver = Recorder(credit)
    accepting.accept_session(queue, receiver, session_id, wait_s)
    if receiver.session is not None:
        queue.request(receiver)
    return receiver


def test_a_session_gives_its_own_messages_in_order(world: World) -> None:
    queue = world.queue(requires_sessions=True)
    queue.send([content(f"{n}", session_id="ab"[n % 2]) for n in range(6)])
    assert accept(queue, "b", 10).bodies == ["1", "3", "5"]


def test_a_message_without_a_session_id_is_refused_and_so_is_its_batch(world: World) -> None:
    queue = world.queue(requires_sessions=True)
    with pytest.raises(AmqpError, match="SessionId was not set"):
        queue.send([content("a", session_id="s"), content("b")])
    assert queue.messages == {}


def test_an_empty_session_can_be_accepted_by_its_id(world: World) -> None:
    queue = world.queue(requires_sessions=True)
    receiver = accept(queue, "s", 5)
    queue.send([content("a", session_id="s")])
    assert receiver.bodies == ["a"]


def test_a_held_session_is_refused_at_once(world: World) -> None:
    queue = world.queue(requires_sessions=True)
    accept(queue, "s")
    error = accept(queue, "s").error
    assert error is not None
    assert error.condition == "com.microsoft:session-cannot-be-locked"


def test_the_next_session_is_the_one_that_has_been_free_longest(world: World) -> None:
    queue = world.queue(requires_sessions=True)
    for name in ("x", "y", "x"):
        queue.send([content(name, session_id=name)])
    names = [receiver.session.session_id for _ in range(2) if (receiver := accept(queue, None)).session]
    assert names == ["x", "y"]


def test_who_waits_for_a_session_gets_the_first_that_has_a_message(world: World) -> None:
    queue = world.queue(requires_sessions=True)
    receiver = accept(queue, None)
    assert receiver.session is None
    world.advance(30)
    queue.send([content("a", session_id="s")])
    assert receiver.session is not None
    assert receiver.session.session_id == "s"


def test_a_wait_for_a_session_ends_in_time(world: World) -> None:
    queue = world.queue(requires_sessions=True)
    receiver = accept(queue, None, wait_s=10)
    world.advance(9.9)
    assert receiver.error is None
    world.advance(0.2)
    assert receiver.error is not None
    assert receiver.error.condition == "com.microsoft:timeout"
    queue.send([content("a", session_id="s")])
    assert receiver.session is None


def test_closing_a_session_frees_its_messages_without_counting(world: World) -> None:
    queue = world.queue(requires_sessions=True)
    queue.send([content("a", session_id="s"), content("b", session_id="s")])
    first = accept(queue, "s", 1)
    queue.leave(first)
    second = accept(queue, "s", 5)
    assert second.bodies == ["a", "b"]
    assert second.got[0][0].delivery_count == 0


def test_a_session_lock_that_ends_counts_what_was_handed_out_and_only_that(world: World) -> None:
    queue = world.queue(requires_sessions=True, lock_s=30.0)
    queue.send([content("a", session_id="s"), content("b", session_id="s")])
    first = accept(queue, "s", 1)
    world.advance(31)
    with pytest.raises(AmqpError, match="session-lock-lost"):
        settling.complete(queue, first.token())
    second = accept(queue, "s", 5)
    assert [(message.delivery_count) for message, _ in second.got] == [1, 0]
    assert first.error is None
    world.advance(LOST_DETACH_S)
    assert first.error is not None
    assert first.error.condition == "com.microsoft:session-lock-lost"


def test_a_lost_session_goes_to_who_waits(world: World) -> None:
    queue = world.queue(requires_sessions=True, lock_s=30.0)
    queue.send([content("a", session_id="s")])
    accept(queue, "s", 1)
    waiting = accept(queue, None)
    world.advance(31)
    assert waiting.session is not None


def test_a_renewed_session_keeps_its_messages_locked(world: World) -> None:
    queue = world.queue(requires_sessions=True, lock_s=30.0)
    queue.send([content("a", session_id="s")])
    receiver = accept(queue, "s", 1)
    world.advance(20)
    session = accepting.held_session(queue, "s", receiver.name)
    assert accepting.renew_session(queue, session) == world.now + 30
    world.advance(29)
    settling.complete(queue, receiver.token())
    assert queue.messages == {}


def test_only_the_holder_may_renew_or_set_the_state(world: World) -> None:
    queue = world.queue(requires_sessions=True)
    accept(queue, "s")
    with pytest.raises(AmqpError, match="session-lock-lost"):
        accepting.held_session(queue, "s", "another link")
    with pytest.raises(AmqpError, match="session-lock-lost"):
        accepting.held_session(queue, "t", None)


def test_a_state_outlives_the_messages_until_it_is_taken_away(world: World) -> None:
    queue = world.queue(requires_sessions=True)
    receiver = accept(queue, "s")
    accepting.set_session_state(queue, "s", b"state")
    queue.leave(receiver)
    again = accept(queue, "s")
    assert again.session is not None
    assert again.session.state == b"state"
    accepting.set_session_state(queue, "s", None)
    queue.leave(again)
    assert queue.sessions.all() == []


def test_sessions_are_listed_with_messages_or_state(world: World) -> None:
    queue = world.queue(requires_sessions=True)
    queue.send([content("a", session_id="has-message")])
    receiver = accept(queue, "has-state")
    accepting.set_session_state(queue, "has-state", b"x")
    accept(queue, "has-nothing")
    queue.leave(receiver)
    assert browse.list_sessions(queue, None, 0, 10) == ["has-message", "has-state"]
    assert browse.list_sessions(queue, None, 1, 10) == ["has-state"]
    assert browse.list_sessions(queue, world.now - 1, 0, 10) == ["has-state"]
    assert browse.list_sessions(queue, world.now, 0, 10) == []


def test_the_dead_letters_of_a_session_queue_have_no_sessions(world: World) -> None:
    queue = world.queue(requires_sessions=True, deliveries_max=1)
    queue.send([content("a", session_id="s")])
    settling.abandon(queue, accept(queue, "s", 1).token(), {})
    assert queue.dead_letters is not None
    assert world.receive(queue.dead_letters).bodies == ["a"]


def test_a_deferred_message_belongs_to_its_session(world: World) -> None:
    queue = world.queue(requires_sessions=True)
    numbers = queue.send([content("a", session_id="s")])
    receiver = accept(queue, "s", 1)
    settling.defer(queue, receiver.token(), {})
    with pytest.raises(AmqpError, match="message-not-found"):
        browse.receive_by_number(queue, numbers, "t", peek_lock=True)
    [(_, lock)] = browse.receive_by_number(queue, numbers, "s", peek_lock=True)
    assert lock is not None
    settling.complete(queue, lock.token)


def test_many_sessions_leave_nothing_behind(world: World) -> None:
    queue = world.queue(requires_sessions=True)
    for n in range(200):
        queue.send([content("a", session_id=f"{n}")])
        receiver = accept(queue, None, 1)
        settling.complete(queue, receiver.token())
        queue.leave(receiver)
    assert queue.sessions.all() == []
    assert queue.usage.size_bytes == 0

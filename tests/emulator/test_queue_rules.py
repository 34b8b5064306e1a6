"""The rules of a queue without sessions, in virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from durabletask_azure.emulator.amqp.types import AmqpError
from durabletask_azure.emulator.broker import browse, settling
from durabletask_azure.emulator.broker.store import MessageState
from tests.emulator.world import Recorder, World, content, properties_of


@pytest.fixture
def world() -> World:
    return World()


def test_messages_come_in_the_order_of_their_numbers(world: World) -> None:
    queue = world.queue()
    queue.send([content(f"{n}") for n in range(5)])
    assert world.receive(queue, 5).bodies == ["0", "1", "2", "3", "4"]


def test_waiting_receivers_take_turns(world: World) -> None:
    queue = world.queue()
    first, second = Recorder(2), Recorder(2)
    queue.request(first)
    queue.request(second)
    queue.send([content(f"{n}") for n in range(4)])
    assert (first.bodies, second.bodies) == (["0", "2"], ["1", "3"])


def test_an_abandoned_message_comes_again_at_its_old_place_and_counts(world: World) -> None:
    queue = world.queue()
    queue.send([content("a"), content("b")])
    first = world.receive(queue)
    settling.abandon(queue, first.token(), {})
    again = world.receive(queue, 2)
    assert again.bodies == ["a", "b"]
    assert [message.delivery_count for message, _ in again.got] == [1, 0]


def test_a_released_message_does_not_count(world: World) -> None:
    queue = world.queue()
    queue.send([content("a")])
    settling.abandon(queue, world.receive(queue).token(), {}, counted=False)
    assert world.receive(queue).got[0][0].delivery_count == 0


def test_a_lock_that_ends_counts_and_the_message_keeps_its_place(world: World) -> None:
    queue = world.queue(lock_s=30.0)
    queue.send([content("a"), content("b")])
    first = world.receive(queue)
    world.advance(29.9)
    assert world.receive(queue, 2).bodies == ["b"]
    waiting = Recorder(2)
    queue.request(waiting)
    world.advance(0.2)
    assert waiting.bodies == ["a"]
    assert waiting.got[0][0].delivery_count == 1
    with pytest.raises(AmqpError, match="message-lock-lost"):
        settling.complete(queue, first.token())


def test_locks_that_end_together_are_redelivered_in_order(world: World) -> None:
    queue = world.queue(lock_s=30.0)
    queue.send([content(f"{n}") for n in range(20)])
    world.receive(queue, 20)
    world.advance(31)
    assert world.receive(queue, 20).bodies == [f"{n}" for n in range(20)]


def test_a_renewed_lock_lasts_its_full_time_again(world: World) -> None:
    queue = world.queue(lock_s=30.0)
    queue.send([content("a")])
    receiver = world.receive(queue)
    world.advance(20)
    assert settling.renew(queue, receiver.token()) == world.now + 30
    world.advance(29)
    settling.complete(queue, receiver.token())
    assert queue.messages == {}


def test_a_lock_lives_on_when_its_receiver_has_gone(world: World) -> None:
    queue = world.queue()
    queue.send([content("a")])
    receiver = world.receive(queue)
    queue.leave(receiver)
    assert world.receive(queue).got == []
    settling.complete(queue, receiver.token())
    assert queue.messages == {}


def test_after_its_last_delivery_a_message_is_dead_lettered(world: World) -> None:
    queue = world.queue(deliveries_max=3)
    queue.send([content("a", properties={"kept": 7})])
    for _ in range(3):
        settling.abandon(queue, world.receive(queue).token(), {})
    assert queue.messages == {}
    assert queue.dead_letters is not None
    dead = world.receive(queue.dead_letters).got[0][0]
    assert dead.delivery_count == 3
    assert properties_of(dead)["DeadLetterReason"] == "MaxDeliveryCountExceeded"
    assert properties_of(dead)["kept"] == 7


def test_in_the_dead_letter_queue_nothing_is_dead_lettered_or_expires(world: World) -> None:
    queue = world.queue(deliveries_max=1)
    queue.send([content("a", ttl_s=5)])
    settling.abandon(queue, world.receive(queue).token(), {})
    assert queue.dead_letters is not None
    for _ in range(20):
        settling.abandon(queue.dead_letters, world.receive(queue.dead_letters).token(), {})
        world.advance(60)
    assert world.receive(queue.dead_letters).bodies == ["a"]


def test_a_message_is_dead_lettered_with_reason_description_and_properties(world: World) -> None:
    queue = world.queue()
    queue.send([content("a")])
    settling.dead_letter(queue, world.receive(queue).token(), "why", "because", {"more": "x"})
    assert queue.dead_letters is not None
    assert properties_of(world.receive(queue.dead_letters).got[0][0]) == {
        "DeadLetterReason": "why",
        "DeadLetterErrorDescription": "because",
        "more": "x",
    }


def test_a_deferred_message_comes_by_its_number_only(world: World) -> None:
    queue = world.queue()
    numbers = queue.send([content("a")])
    settling.defer(queue, world.receive(queue).token(), {})
    assert world.receive(queue).got == []
    [(message, lock)] = browse.receive_by_number(queue, numbers, None, peek_lock=True)
    assert lock is not None
    with pytest.raises(AmqpError, match="message-not-found"):
        browse.receive_by_number(queue, numbers, None, peek_lock=True)
    settling.abandon(queue, lock.token, {})
    assert message.state is MessageState.DEFERRED
    browse.receive_by_number(queue, numbers, None, peek_lock=False)
    assert queue.messages == {}


def test_receive_and_delete_removes_at_once(world: World) -> None:
    queue = world.queue()
    queue.send([content("a")])
    receiver = world.receive(queue, peek_lock=False)
    assert receiver.got[0][1] is None
    assert queue.messages == {}


def test_a_message_that_is_expired_is_dropped_or_dead_lettered(world: World) -> None:
    dropping, keeping = world.queue("d"), world.queue("k", dead_letters_expired=True)
    for queue in (dropping, keeping):
        queue.send([content("a", ttl_s=10), content("b")])
    world.advance(10)
    assert [list(queue.messages) for queue in (dropping, keeping)] == [[2], [2]]
    assert keeping.dead_letters is not None
    [dead] = keeping.dead_letters.messages.values()
    assert properties_of(dead)["DeadLetterReason"] == "TTLExpiredException"


def test_a_queues_time_to_live_bounds_that_of_a_message(world: World) -> None:
    queue = world.queue(ttl_s=60.0)
    queue.send([content("a", ttl_s=3600), content("b", ttl_s=30)])
    assert [message.expires_at - world.now for message in queue.messages.values()] == [60, 30]


def test_a_locked_message_expires_when_its_lock_has_ended(world: World) -> None:
    queue = world.queue(lock_s=30.0)
    queue.send([content("a", ttl_s=10)])
    world.receive(queue)
    world.advance(20)
    assert len(queue.messages) == 1
    world.advance(11)
    assert queue.messages == {}


def test_a_locked_message_may_be_completed_after_its_time_to_live(world: World) -> None:
    queue = world.queue(lock_s=30.0, dead_letters_expired=True)
    queue.send([content("a", ttl_s=10)])
    receiver = world.receive(queue)
    world.advance(20)
    settling.complete(queue, receiver.token())
    assert queue.dead_letters is not None
    assert queue.dead_letters.messages == {}


def test_a_scheduled_message_gets_a_new_number_when_it_becomes_active(world: World) -> None:
    queue = world.queue()
    [number] = queue.send([content("late", scheduled_at=world.now + 60)])
    queue.send([content("soon")])
    assert browse.count(queue) == browse.Counts(active=1, scheduled=1, dead_letters=0)
    world.advance(59)
    assert world.receive(queue, 9).bodies == ["soon"]
    world.advance(1)
    late = world.receive(queue).got[0][0]
    assert late.seq > 2
    assert (late.enqueued_at, late.scheduled_at) == (world.now, world.now)
    assert number not in queue.messages


def test_the_time_to_live_of_a_scheduled_message_begins_when_it_becomes_active(world: World) -> None:
    queue = world.queue()
    queue.send([content("a", scheduled_at=world.now + 60, ttl_s=10)])
    world.advance(65)
    assert world.receive(queue).bodies == ["a"]


def test_a_cancelled_message_never_comes(world: World) -> None:
    queue = world.queue()
    numbers = queue.send(
        [content("a", scheduled_at=world.now + 60), content("b", scheduled_at=world.now + 60)]
    )
    browse.cancel_scheduled(queue, numbers[:1])
    with pytest.raises(AmqpError, match="message-not-found"):
        browse.cancel_scheduled(queue, numbers)
    world.advance(61)
    assert world.receive(queue, 2).bodies == ["b"]
    with pytest.raises(AmqpError, match="message-not-found"):
        browse.cancel_scheduled(queue, numbers[1:])


def test_a_duplicate_is_taken_in_silence_and_dropped(world: World) -> None:
    queue = world.queue(detects_duplicates=True, duplicates_s=60.0)
    queue.send([content("a", message_id="m")])
    queue.send([content("b", message_id="m"), content("c", message_id="n")])
    assert world.receive(queue, 5).bodies == ["a", "c"]


def test_the_window_of_duplicates_ends_to_the_moment(world: World) -> None:
    queue = world.queue(detects_duplicates=True, duplicates_s=60.0)
    queue.send([content("a", message_id="m")])
    world.advance(59.9)
    queue.send([content("b", message_id="m")])
    world.advance(0.2)
    queue.send([content("c", message_id="m")])
    assert world.receive(queue, 5).bodies == ["a", "c"]
    world.advance(61)
    assert queue.duplicates.ids == {}


def test_a_duplicate_within_one_batch_is_dropped(world: World) -> None:
    queue = world.queue(detects_duplicates=True)
    queue.send([content("a", message_id="m"), content("b", message_id="m")])
    assert world.receive(queue, 5).bodies == ["a"]


def test_completing_does_not_forget_a_message_id(world: World) -> None:
    queue = world.queue(detects_duplicates=True)
    queue.send([content("a", message_id="m")])
    settling.complete(queue, world.receive(queue).token())
    queue.send([content("b", message_id="m")])
    assert queue.messages == {}


def test_scheduled_messages_and_others_are_duplicates_of_one_another(world: World) -> None:
    queue = world.queue(detects_duplicates=True, duplicates_s=600.0)
    queue.send([content("a", message_id="m", scheduled_at=world.now + 60)])
    queue.send([content("b", message_id="m")])
    queue.send([content("c", message_id="n")])
    queue.send([content("d", message_id="n", scheduled_at=world.now + 60)])
    world.advance(61)
    assert world.receive(queue, 5).bodies == ["c", "a"]


def test_messages_without_an_id_are_never_duplicates(world: World) -> None:
    queue = world.queue(detects_duplicates=True)
    queue.send([content("a"), content("b")])
    assert len(queue.messages) == 2


def test_a_full_queue_takes_nothing_until_there_is_room(world: World) -> None:
    queue = world.queue()
    big = content("x" * 200_000)
    fits = 1024 * 1_048_576 // big.size
    for _ in range(fits):
        queue.send([big])
    with pytest.raises(AmqpError, match="resource-limit-exceeded"):
        queue.send([big])
    settling.complete(queue, world.receive(queue).token())
    queue.send([big])
    assert queue.usage.size_bytes == fits * big.size


def test_a_disabled_queue_takes_and_gives_nothing(world: World) -> None:
    queue = world.queue(status="Disabled")
    with pytest.raises(AmqpError, match="entity-disabled"):
        queue.send([content("a")])
    with pytest.raises(AmqpError, match="entity-disabled"):
        queue.check_may_receive()


def test_receivers_of_a_deleted_queue_are_sent_away(world: World) -> None:
    queue = world.queue()
    receiver = Recorder(1)
    queue.request(receiver)
    world.namespace.delete("Q")
    assert receiver.error is not None
    assert receiver.error.condition == "amqp:not-found"
    with pytest.raises(AmqpError, match="not-found"):
        queue.send([content("a")])


def test_peek_shows_every_state_and_locks_nothing(world: World) -> None:
    queue = world.queue()
    queue.send([content("a"), content("b"), content("c", scheduled_at=world.now + 60)])
    settling.defer(queue, world.receive(queue).token(), {})
    states = [message.state for message in browse.peek(queue, 1, 10, None)]
    assert states == [MessageState.DEFERRED, MessageState.ACTIVE, MessageState.SCHEDULED]
    assert world.receive(queue).bodies == ["b"]


def test_a_queue_that_forwards_to_itself_does_not_hang(world: World) -> None:
    queue = world.queue("loop", forward_to="loop")
    queue.send([content("a")])
    assert world.receive(queue).bodies == ["a"]


def test_forwarded_messages_arrive_at_the_other_queue(world: World) -> None:
    target = world.queue("target")
    world.queue("source", forward_to="sb://host.example/target").send([content("a")])
    assert world.receive(target).bodies == ["a"]


def test_properties_changed_on_abandon_stay(world: World) -> None:
    queue = world.queue()
    queue.send([content("a", properties={"x": 1, "y": "old"})])
    settling.abandon(queue, world.receive(queue).token(), {"y": "new"})
    assert properties_of(world.receive(queue).got[0][0]) == {"x": 1, "y": "new"}


def test_locks_end_in_their_own_time_when_the_lock_duration_changes(world: World) -> None:
    queue = world.queue(lock_s=300.0)
    queue.send([content("long"), content("short")])
    world.receive(queue)
    world.namespace.update(replace(queue.settings, lock_s=10.0))
    world.receive(queue)
    world.namespace.update(replace(queue.settings, lock_s=60.0))
    world.advance(11)
    assert world.receive(queue, 2).bodies == ["short"]
    world.advance(290)
    assert world.receive(queue, 2).bodies == ["long", "short"]

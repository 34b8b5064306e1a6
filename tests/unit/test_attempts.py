"""What an owner notes before it handles something by itself that may end its process."""

from __future__ import annotations

from durabletask_azure.engine.inbox import Item
from durabletask_azure.engine.work import Attempts


def nudge(instance_id: str) -> Item:
    return Item(0, instance_id)


def test_an_attempt_that_a_process_ended_over_stays_noted() -> None:
    attempts = Attempts()
    attempts.take_over([("nudge a", 2), ("nudge b", 1)])
    assert attempts.begin("nudge a") == 2
    assert attempts.noted() == (("nudge a", 3), ("nudge b", 1))


def test_what_is_done_with_is_forgotten() -> None:
    attempts = Attempts()
    attempts.take_over([("nudge a", 2), ("nudge b", 1)])
    attempts.begin("nudge a")
    assert attempts.noted([nudge("a")]) == (("nudge b", 1),)
    attempts.forget([nudge("a")])
    attempts.end()
    assert attempts.noted() == (("nudge b", 1),)


def test_an_attempt_that_came_to_nothing_does_not_count() -> None:
    attempts = Attempts()
    attempts.take_over([("nudge a", 2)])
    for _ in range(5):
        assert attempts.begin("nudge a") == 2
        attempts.end()
        assert attempts.begin("nudge b") == 0
        attempts.end()
    attempts.end()
    assert attempts.noted() == (("nudge a", 2),)

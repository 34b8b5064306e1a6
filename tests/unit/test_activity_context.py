"""What an activity can ask about its own call."""

from __future__ import annotations

import inspect

from durabletask_azure import ActivityContext


def test_an_activity_knows_who_called_it_and_how_often_it_was_delivered() -> None:
    context = ActivityContext("order-7", 3, name="charge", execution_id="e1", version="2.0", delivery_count=2)

    assert context.orchestration_id == "order-7"
    assert context.task_id == 3
    assert context.name == "charge"
    assert context.execution_id == "e1"
    assert context.version == "2.0"
    assert context.delivery_count == 2


def test_the_idempotency_key_is_the_same_for_every_run_of_a_call_and_for_no_other() -> None:
    first = ActivityContext("order-7", 3, execution_id="e1", delivery_count=1)
    again = ActivityContext("order-7", 3, execution_id="e1", delivery_count=4)
    other = ActivityContext("order-7", 4, execution_id="e1")

    assert first.idempotency_key == again.idempotency_key
    assert first.idempotency_key != other.idempotency_key


def test_the_constructor_takes_what_durabletask_gives_by_position() -> None:
    names = [*inspect.signature(ActivityContext).parameters]

    assert names[:2] == ["orchestration_id", "task_id"]

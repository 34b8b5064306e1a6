"""An activity task that a worker has taken out of the queue."""

from __future__ import annotations

from typing import cast

import msgspec

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.messages import ActivityTask, ToPartition
from durabletask_azure.ports import ActivityDelivery

__all__ = ["DELIVERIES_EXHAUSTED", "TakenTask", "taken"]

DELIVERIES_EXHAUSTED = "ActivityDeliveriesExhausted"
"""``error_type`` of an activity that was handed out too often without a result: its worker dies of it, or hangs."""


class TakenTask(msgspec.Struct, eq=False, gc=False):
    """A task this worker has: waiting, running, or with a result that is not yet sent.

    ``task`` is what is to be done; nobody asks this of a task that could not be read. ``deliveries`` says how often it
    was handed out, in the messages before this one as well. ``message`` tells what came of it, when it has ended.
    """

    key: int
    delivery: ActivityDelivery
    received_at: float
    task: ActivityTask
    deliveries: int
    is_running: bool = False
    is_lost: bool = False
    message: ToPartition | None = None

    def exhausted(self) -> FailureDetails:
        """Return the failure of a task that is not tried any more."""
        message = f"activity {self.task.name!r} was handed out {self.deliveries} times without a result"
        return FailureDetails(message=message, error_type=DELIVERIES_EXHAUSTED)


def taken(key: int, delivery: ActivityDelivery, received_at: float) -> TakenTask:
    """Return a delivery as a task of this worker, under its name ``key`` for it."""
    task, count = delivery.task, delivery.delivery_count
    if task is None:
        return TakenTask(key, delivery, received_at, cast(ActivityTask, None), count)
    return TakenTask(key, delivery, received_at, task, count + task.deliveries)

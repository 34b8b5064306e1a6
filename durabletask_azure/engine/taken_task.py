"""An activity task that a worker has taken out of the queue."""

from __future__ import annotations

from typing import cast

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.messages import ActivityTask
from durabletask_azure.ports import ActivityDelivery

__all__ = ["DELIVERIES_EXHAUSTED", "TakenTask"]

DELIVERIES_EXHAUSTED = "ActivityDeliveriesExhausted"
"""``error_type`` of an activity that was handed out too often without a result: its worker dies of it, or hangs."""


class TakenTask:
    """A task this worker has: waiting, running, or with a result that is not yet sent."""

    __slots__ = ("deliveries", "delivery", "is_lost", "is_running", "key", "received_at", "task")

    def __init__(self, key: int, delivery: ActivityDelivery, received_at: float) -> None:
        self.key = key
        self.delivery = delivery
        self.received_at = received_at
        self.is_running = False
        self.is_lost = False
        self.task = cast(ActivityTask, delivery.task)
        """What is to be done; nobody asks this of a task that could not be read."""
        self.deliveries = delivery.delivery_count
        """How often it was handed out, in the messages before this one as well."""
        if delivery.task is not None:
            self.deliveries += delivery.task.deliveries

    def exhausted(self) -> FailureDetails:
        """Return the failure of a task that is not tried any more."""
        message = f"activity {self.task.name!r} was handed out {self.deliveries} times without a result"
        return FailureDetails(message=message, error_type=DELIVERIES_EXHAUSTED)

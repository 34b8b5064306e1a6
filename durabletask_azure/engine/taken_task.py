"""An activity task that a worker has taken out of the queue."""

from __future__ import annotations

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.messages import ActivityTask
from durabletask_azure.ports import ActivityDelivery

__all__ = ["DELIVERIES_EXHAUSTED", "TakenTask"]

DELIVERIES_EXHAUSTED = "ActivityDeliveriesExhausted"
"""``error_type`` of an activity that was handed out too often without a result: its worker dies of it, or hangs."""


class TakenTask:
    """A task this worker has: waiting, running, or with a result that is not yet sent."""

    __slots__ = ("deliveries", "delivery", "is_lost", "is_running", "key", "readable", "received_at")

    def __init__(self, key: int, delivery: ActivityDelivery, received_at: float) -> None:
        self.key = key
        self.delivery = delivery
        self.received_at = received_at
        self.is_running = False
        self.is_lost = False
        self.readable = delivery.task
        earlier = 0 if delivery.task is None else delivery.task.deliveries
        self.deliveries = earlier + delivery.delivery_count

    @property
    def task(self) -> ActivityTask:
        """What is to be done; the task could be read."""
        assert self.readable is not None
        return self.readable

    def exhausted(self) -> FailureDetails:
        """Return the failure of a task that is not tried any more."""
        message = f"activity {self.task.name!r} was handed out {self.deliveries} times without a result"
        return FailureDetails(message=message, error_type=DELIVERIES_EXHAUSTED)

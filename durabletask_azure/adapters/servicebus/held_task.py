"""A task that a worker holds, and what is to become of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver

from durabletask_azure.adapters.servicebus.thread import Reply

if TYPE_CHECKING:
    from durabletask_azure.adapters.servicebus.task_link import TaskLink

__all__ = ["HeldTask", "Settling", "TaskSettlement"]


class Settling(Enum):
    """What is to become of a task in its queue."""

    COMPLETE = "complete"
    ABANDON = "abandon"
    DEAD_LETTER = "dead letter"


class HeldTask:
    """A task that this worker holds. ``is_ending`` once its end was asked for; ``is_lost`` when its lock is gone."""

    __slots__ = ("is_ending", "is_lost", "link", "locked_until", "message", "receiver", "renew_at")

    def __init__(
        self, message: ServiceBusReceivedMessage, receiver: ServiceBusReceiver, link: TaskLink, lock_s: float
    ) -> None:
        self.message = message
        self.receiver = receiver
        self.link = link
        self.is_ending = False
        self.is_lost = False
        self.renew_at = 0.0
        self.locked_until = 0.0
        self.extend(lock_s)

    def extend(self, lock_s: float) -> None:
        """Note that the lock lasts its full time from now, by the steady clock of this machine."""
        now = time.monotonic()
        self.renew_at, self.locked_until = now + lock_s / 3, now + lock_s


class TaskSettlement:
    """Tasks to be settled in one way; ``reply`` is answered when all are."""

    __slots__ = ("description", "kind", "open", "reason", "reply", "tasks")

    def __init__(
        self,
        kind: Settling,
        tasks: Sequence[HeldTask],
        reply: Reply[None] | None = None,
        reason: str = "",
        description: str = "",
    ) -> None:
        self.kind = kind
        self.tasks = tasks
        self.open = len(tasks)
        self.reply = reply
        self.reason = reason
        self.description = description

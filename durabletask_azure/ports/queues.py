"""The two queues of a hub: messages to partitions (with sessions), and activity tasks (competing consumers)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

import msgspec

from durabletask_azure.core.messages import ActivityTask, Message, ToActivities, ToPartition

__all__ = [
    "ActivityDelivery",
    "ActivityQueue",
    "DeadLetter",
    "Delivery",
    "FetchesAhead",
    "Interruptible",
    "OrchestrationQueue",
    "PartitionSession",
]


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """A broker message as a session received it: a pack of one or more messages, or one that cannot be read.

    ``enqueued_at`` is the broker's time of taking it in (for a scheduled message: of its becoming due). ``error`` says
    why ``messages`` is empty. ``token`` belongs to the adapter.
    """

    id: str
    messages: tuple[Message, ...]
    enqueued_at: datetime
    delivery_count: int
    token: object
    error: str | None = None


class ActivityDelivery(msgspec.Struct, frozen=True, gc=False):
    """An activity task as received; ``task`` is ``None`` and ``error`` set when it cannot be read."""

    id: str
    task: ActivityTask | None
    delivery_count: int
    token: object
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message the broker or the engine put aside: what could be read of it, and why it is here.

    ``body`` is the message as it came, where the archive has to store it (an archive that leaves the message where it
    is needs none).
    """

    id: str
    partition: int | None
    messages: tuple[Message, ...]
    task: ActivityTask | None
    reason: str
    description: str
    delivery_count: int
    enqueued_at: datetime
    token: object
    body: bytes = field(default=b"", repr=False)


class PartitionSession(Protocol):
    """The exclusive right to receive the messages of one partition, until closed or lost.

    Receive, complete, dead_letter and renew may be called from different tasks; the adapter serialises them.
    """

    @property
    def partition(self) -> int:
        """The partition this session belongs to."""
        ...

    async def receive(self, count_max: int, wait_s: float) -> Sequence[Delivery]:
        """Return up to ``count_max`` deliveries in the order the broker took them in.

        Returns as soon as there is one, or an empty list after ``wait_s`` seconds or when the session is closed. Never
        cancel it: a message received in that moment would stay locked (F14). Scheduled messages come when due, never
        early. A message not completed comes again after the session is let go of, with a higher ``delivery_count``.

        Raises:
            PartitionLostError: the session is lost; what was received and not completed will be delivered again.
        """
        ...

    async def complete(self, deliveries: Sequence[Delivery]) -> None:
        """Remove handled messages.

        Raises:
            PartitionLostError: the session is lost; some may come again.
        """
        ...

    async def dead_letter(self, delivery: Delivery, reason: str, description: str) -> None:
        """Put a message aside. Raises ``PartitionLostError`` as :meth:`complete` does."""
        ...

    async def renew(self) -> None:
        """Extend the session's lock. Raises ``PartitionLostError`` when it is gone."""
        ...

    async def close(self) -> None:
        """Give the session back at once; a pending receive returns an empty list. Closing twice is harmless."""
        ...


class OrchestrationQueue(Protocol):
    """Carries messages to partitions."""

    async def accept(self, partition: int) -> PartitionSession | None:
        """Return the session of a partition, or ``None`` while another holder has it."""
        ...

    async def send(self, messages: Sequence[ToPartition]) -> None:
        """Send messages, all to one partition, keeping their order; those with ``deliver_at`` become visible then.

        The broker keeps the order of messages sent one after the other; the adapter may pack neighbours into one broker
        message. After an error any prefix may have been sent; sending all again under the same ids is the cure.

        Raises:
            QueueFullError: the queue is at its size limit.
        """
        ...

    async def cancel_scheduled(self, partition: int, message_ids: Sequence[str]) -> None:
        """Remove scheduled messages, as far as the adapter still can; only an economy."""
        ...

    async def dead_letters(self, count_max: int) -> Sequence[DeadLetter]:
        """Return up to ``count_max`` dead letters, locked for this reader; empty when there are none now."""
        ...

    async def settle_dead_letter(self, letter: DeadLetter) -> None:
        """Remove a dead letter."""
        ...

    async def close(self) -> None:
        """Close all links."""
        ...


class ActivityQueue(Protocol):
    """Carries activity tasks to whichever worker is free, and their results back."""

    async def send(self, tasks: Sequence[ToActivities]) -> None:
        """Send tasks, keeping their order; errors as :meth:`OrchestrationQueue.send`."""
        ...

    async def prepare_for(self, names: Collection[str]) -> None:
        """Get ready to receive the tasks of these activities alone, for a worker that takes no others.

        An adapter that can choose (the embedded hub) takes any names. Service Bus cannot receive selectively: there a
        hub has activity groups, named sets of activities with a queue each, fixed in the hub's description; whoever
        sends a task looks the group of its name up there, and ``names`` must be whole groups.

        Raises:
            ConfigurationError: tasks of these activities cannot be received without those of others; says which.
        """
        ...

    async def receive(
        self, count_max: int, wait_s: float, names: Collection[str] | None = None
    ) -> Sequence[ActivityDelivery]:
        """Return up to ``count_max`` tasks, locked for this worker; as soon as there is one, else empty after
        ``wait_s`` seconds or when closed. Never cancel it.

        With ``names`` (see :meth:`prepare_for`) only tasks of these activities come, and tasks that cannot be read, in
        the order sent; however many others wait, they hold nothing up.
        """
        ...

    async def renew(self, deliveries: Sequence[ActivityDelivery]) -> Sequence[ActivityDelivery]:
        """Extend the locks; return those whose lock is lost (their task may run elsewhere)."""
        ...

    async def finish(self, results: Sequence[tuple[ActivityDelivery, ToPartition | None]]) -> None:
        """Send each result (if any) to its partition, and only when it is sent remove the task.

        A lock lost meanwhile is no error: the result is sent all the same, the state machine counts it once.
        """
        ...

    async def abandon(self, deliveries: Sequence[ActivityDelivery]) -> None:
        """Give tasks back for another worker, at once."""
        ...

    async def dead_letter(self, delivery: ActivityDelivery, reason: str, description: str) -> None:
        """Put a task aside (one that cannot be read); a lost lock is no error, the task comes again."""
        ...

    async def dead_letters(self, count_max: int) -> Sequence[DeadLetter]:
        """As :meth:`OrchestrationQueue.dead_letters`."""
        ...

    async def settle_dead_letter(self, letter: DeadLetter) -> None:
        """As :meth:`OrchestrationQueue.settle_dead_letter`."""
        ...

    async def close(self) -> None:
        """Close all links; a pending receive returns an empty list."""
        ...


@runtime_checkable
class FetchesAhead(Protocol):
    """Offered by an activity queue that takes tasks before they are asked for."""

    async def hold_back(self) -> Sequence[ActivityDelivery]:
        """Give back what was taken ahead, uncounted, and take nothing ahead until more than one is asked for at once;
        return what had come already. To be called while no receive waits.
        """
        ...


@runtime_checkable
class Interruptible(Protocol):
    """Offered by an activity queue that can end waiting early, so that a worker stops at once."""

    def interrupt(self) -> None:
        """Make pending receives return what they have, as if their wait were over; later ones are not affected."""
        ...

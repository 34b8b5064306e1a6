"""What a partition still has to do: received messages in order, and instances that need a turn without one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from durabletask_azure.core.instance import needs_history
from durabletask_azure.core.messages import Inbound
from durabletask_azure.ports import Delivery

__all__ = ["Inbox", "Item", "Open", "need_history"]


class Open(msgspec.Struct, gc=False):
    """A broker message that is not completed yet: ``left`` of its messages are not committed."""

    delivery: Delivery
    left: int


class Item(msgspec.Struct, gc=False):
    """One message of a delivery for one instance; without a message, a nudge: look what is due there."""

    order: int
    instance_id: str
    inbound: Inbound | None = None
    origin: Open | None = None

    @property
    def attempt_key(self) -> str:
        """What an attempt at it alone is noted under: its message (a broker's message may pack many), or the nudge."""
        return f"nudge {self.instance_id}" if self.inbound is None else self.inbound.message.id


class Inbox:
    """Items in order of arrival; those given back come before later ones again."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._nudges: dict[str, None] = {}
        self._order = 0
        self.delivery_count = 1
        """No item that is here, or that was taken last, has been delivered more often than this."""
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def has_messages(self) -> bool:
        """Whether there is more than nudges."""
        return len(self._items) > len(self._nudges)

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Append the messages of readable deliveries."""
        if not self._items:
            self.delivery_count = 1
        order = self._order
        append = self._items.append
        for delivery in deliveries:
            messages = delivery.messages
            origin = Open(delivery, len(messages))
            at, count = delivery.enqueued_at, delivery.delivery_count
            if count > self.delivery_count:
                self.delivery_count = count
            for message in messages:
                order += 1
                inbound = Inbound(message=message, enqueued_at=at, delivery_count=count)
                append(Item(order, message.instance_id, inbound, origin))
        self._order = order
        if self._items:
            self._filled.set()

    def nudge(self, instance_id: str) -> None:
        """Ask for a turn of an instance without a message; once is enough until it is taken."""
        if instance_id not in self._nudges:
            self._nudges[instance_id] = None
            self._order += 1
            self._items.append(Item(self._order, instance_id))
            self._filled.set()

    def order(self, inbound: Inbound) -> None:
        """Append a message of the owner's own, which no broker knows."""
        self._order += 1
        self._items.append(Item(self._order, inbound.message.instance_id, inbound))
        self._filled.set()

    def give_back(self, items: Iterable[Item]) -> None:
        """Put items back in front, in their old order."""
        items = list(items)
        counts = [item.inbound.delivery_count for item in items if item.inbound is not None]
        self.delivery_count = max((self.delivery_count, *counts))
        self._nudges.update((item.instance_id, None) for item in items if item.inbound is None)
        self._items = deque(sorted([*items, *self._items], key=lambda item: item.order))
        if self._items:
            self._filled.set()

    def take(self, count_max: int) -> list[Item]:
        """Take the first items, at most ``count_max``."""
        count = min(count_max, len(self._items))
        items = [self._items.popleft() for _ in range(count)]
        if self._nudges:
            for item in items:
                if item.inbound is None:
                    self._nudges.pop(item.instance_id, None)
        if not self._items:
            self._filled.clear()
        return items

    def wake(self) -> None:
        """Make a waiter look around."""
        self._filled.set()

    async def wait(self) -> None:
        """Wait until there is an item, or somebody calls :meth:`wake`."""
        await self._filled.wait()
        if not self._items:
            self._filled.clear()


def need_history(items: Iterable[Item]) -> bool:
    """Return whether one of these items asks for an instance with its whole history."""
    return any(item.inbound is not None and needs_history(item.inbound.message) for item in items)

"""The simulated broker: a queue with sessions and one of competing consumers, as Service Bus behaves.

All methods act at once on the one shared state; latency and faults are the gate's business. What holds of the real
one holds here: exclusive session locks that expire, redelivery with a count, dead-lettering after it, duplicate
detection by message id (which only ever swallows), scheduled messages that get their place in the queue when they
become due, and numbers that start again when the queue is created anew.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from durabletask_azure.errors import PartitionLostError

if TYPE_CHECKING:
    from tests.simulation.fakes.world import World

__all__ = ["ActivityBroker", "Dead", "Item", "SessionBroker", "SessionLock"]


COPIES_MAX = 500


@dataclass(eq=False, slots=True)
class Item:
    """One broker message; ``locked_until`` and ``lock`` are its own lock's (activity queue) or unused."""

    number: int
    id: str
    body: bytes
    group: str
    enqueued_at: datetime
    count: int = 0
    lock: int = 0
    locked_until: float = -1.0


@dataclass(eq=False, slots=True)
class Dead:
    """A dead-lettered message, and until when a reader has it locked."""

    item: Item
    partition: int | None
    reason: str
    description: str
    locked_until: float = -1.0


class SessionLock:
    """The exclusive right to one partition's messages, until released or expired."""

    def __init__(self, partition: int, until: float, holder: str) -> None:
        self.partition = partition
        self.holder = holder
        self.until = until
        self.held: dict[int, Item] = {}


class _Window:
    """Duplicate detection: ids seen within the last ``length_s`` seconds."""

    def __init__(self, length_s: float) -> None:
        self._length_s = length_s
        self._seen: OrderedDict[str, float] = OrderedDict()

    def is_new(self, message_id: str, now: float) -> bool:
        seen = self._seen
        while seen and next(iter(seen.values())) <= now - self._length_s:
            seen.popitem(last=False)
        if message_id in seen:
            return False
        if self._length_s > 0:
            seen[message_id] = now
        return True

    def clear(self) -> None:
        self._seen.clear()


class _Part:
    """One partition's messages in order, and who holds its session."""

    def __init__(self) -> None:
        self.ready: list[Item] = []
        self.scheduled: dict[Item, asyncio.TimerHandle] = {}
        self.holder: SessionLock | None = None
        self.held_back_until = 0.0


class SessionBroker:
    """The orchestration queue."""

    def __init__(
        self, world: World, partitions: int, *, lock_s: float, dedup_s: float, delivery_count_max: int
    ) -> None:
        self._world = world
        self.lock_s = lock_s
        self._delivery_count_max = delivery_count_max
        self._parts = [_Part() for _ in range(partitions)]
        self._window = _Window(dedup_s)
        self._numbers = 0
        self.dead: list[Dead] = []
        self.sent = 0
        self.copies: list[tuple[int, bytes]] = []
        """What was sent, as it was, up to a number: late copies are made of it."""
        self.activation_lag: Callable[[], float] = float
        self.duplicate_after: Callable[[], float | None] = lambda: None
        self.hold_back: Callable[[], float] = float

    def accept(self, partition: int, holder: str = "") -> SessionLock | None:
        """Return the session of a partition, or ``None`` while it is held; ``holder`` says who asks."""
        part = self._parts[partition]
        if part.holder is not None:
            if self._world.time() < part.holder.until:
                return None
            self.release(part.holder)
        part.holder = SessionLock(partition, self._world.time() + self.lock_s, holder)
        return part.holder

    def held_by(self, holder: str) -> list[int]:
        """Return the partitions whose session ``holder`` has."""
        now = self._world.time()
        locks = [part.holder for part in self._parts if part.holder is not None and part.holder.until > now]
        return [lock.partition for lock in locks if lock.holder == holder]

    def holds(self, lock: SessionLock) -> bool:
        """Tell whether a session is still held."""
        return self._parts[lock.partition].holder is lock and self._world.time() < lock.until

    def check(self, lock: SessionLock) -> None:
        """Raise ``PartitionLostError`` unless the session is still held."""
        if not self.holds(lock):
            if self._parts[lock.partition].holder is lock:
                self.release(lock)
            raise PartitionLostError(f"the session of partition {lock.partition} is lost")

    def renew(self, lock: SessionLock) -> None:
        """Extend a session's lock."""
        self.check(lock)
        lock.until = self._world.time() + self.lock_s

    def release(self, lock: SessionLock) -> None:
        """Let go of a session: what it holds may be delivered again."""
        part = self._parts[lock.partition]
        if part.holder is lock:
            part.holder = None
            self._world.notify(("session", lock.partition))

    def hang_up(self, holder: str) -> None:
        """End a holder's sessions with its connection: as with Service Bus, no delivery in them counts."""
        for part in self._parts:
            lock = part.holder
            if lock is not None and lock.holder == holder:
                for item in lock.held.values():
                    item.count -= 1
                self.release(lock)

    def receive(self, lock: SessionLock, count_max: int) -> list[Item]:
        """Lock and return up to ``count_max`` messages, in order."""
        self.check(lock)
        part = self._parts[lock.partition]
        if part.held_back_until > self._world.time():
            return []
        taken: list[Item] = []
        for item in tuple(part.ready):
            if len(taken) == count_max:
                break
            if item.number in lock.held:
                continue
            item.count += 1
            if item.count > self._delivery_count_max:
                part.ready.remove(item)
                self._bury(item, lock.partition, "MaxDeliveryCountExceeded", "delivered too often")
                continue
            lock.held[item.number] = item
            taken.append(item)
        return taken

    def complete(self, lock: SessionLock, numbers: Sequence[int]) -> None:
        """Remove messages the session has locked."""
        self.check(lock)
        part = self._parts[lock.partition]
        for number in numbers:
            item = lock.held.get(number)
            if item is not None and item in part.ready:
                part.ready.remove(item)

    def dead_letter(self, lock: SessionLock, number: int, reason: str, description: str) -> None:
        """Put a locked message aside."""
        self.check(lock)
        item = lock.held.get(number)
        part = self._parts[lock.partition]
        if item is not None and item in part.ready:
            part.ready.remove(item)
            self._bury(item, lock.partition, reason, description)

    def send(self, partition: int, message_id: str, body: bytes, due: float | None) -> None:
        """Take a message in, now or when due."""
        world = self._world
        if not self._window.is_new(message_id, world.time()):
            world.trace("swallowed duplicate", message_id)
            return
        self.sent += 1
        if len(self.copies) < COPIES_MAX:
            self.copies.append((partition, body))
        self._put(partition, message_id, body, due)
        again = self.duplicate_after()
        if again is not None:
            self._put(partition, message_id, body, max(due or 0.0, world.time() + again))

    def _put(self, partition: int, message_id: str, body: bytes, due: float | None) -> None:
        world, part = self._world, self._parts[partition]
        item = Item(0, message_id, body, "", world.now())
        if due is None or due <= world.time():
            self._activate(partition, item)
        else:
            when = due + self.activation_lag()
            part.scheduled[item] = world.loop.call_at(when, self._activate, partition, item)

    def _activate(self, partition: int, item: Item) -> None:
        world, part = self._world, self._parts[partition]
        part.scheduled.pop(item, None)
        self._numbers += 1
        item.number = self._numbers
        item.enqueued_at = world.now()
        part.ready.append(item)
        held_back = self.hold_back()
        if held_back > 0:
            part.held_back_until = max(part.held_back_until, world.time() + held_back)
            world.notify_at(("session", partition), part.held_back_until)
        world.notify(("session", partition))

    def cancel_scheduled(self, partition: int, message_ids: Sequence[str]) -> None:
        """Remove scheduled messages."""
        part = self._parts[partition]
        for item, handle in tuple(part.scheduled.items()):
            if item.id in message_ids:
                handle.cancel()
                del part.scheduled[item]

    def _bury(self, item: Item, partition: int, reason: str, description: str) -> None:
        self._world.trace("dead letter", item.id, reason)
        self.dead.append(Dead(item, partition, reason, description))

    def recreate(
        self, is_lost: Callable[[Item], bool] = lambda item: True, *, keeps_ready: bool = True
    ) -> None:
        """Lose all sessions and what ``is_lost`` of the scheduled; numbers and duplicate detection start again.

        Without ``keeps_ready`` the messages that were due are lost as well.
        """
        self._numbers = 0
        self._window.clear()
        for partition, part in enumerate(self._parts):
            for item in [item for item in part.scheduled if is_lost(item)]:
                part.scheduled.pop(item).cancel()
            part.holder = None
            kept, part.ready = part.ready, []
            for item in kept if keeps_ready else ():
                self._activate(partition, Item(0, item.id, item.body, "", item.enqueued_at))

    def waiting(self, partition: int) -> Sequence[Item]:
        """Return the messages of a partition that are not completed, in order."""
        return tuple(self._parts[partition].ready)

    def scheduled(self, partition: int) -> Sequence[Item]:
        """Return the scheduled messages of a partition that are not yet due."""
        return tuple(self._parts[partition].scheduled)

    def inject(self, partition: int, message_id: str, body: bytes) -> None:
        """Put a message of a stranger into the queue."""
        self._put(partition, message_id, body, None)


class ActivityBroker:
    """The activity queues, one per group."""

    def __init__(self, world: World, *, lock_s: float, dedup_s: float, delivery_count_max: int) -> None:
        self._world = world
        self.lock_s = lock_s
        self._delivery_count_max = delivery_count_max
        self._items: dict[int, Item] = {}
        self._window = _Window(dedup_s)
        self._numbers = 0
        self._locks = 0
        self.dead: list[Dead] = []
        self.sent = 0
        self.duplicate_after: Callable[[], float | None] = lambda: None

    def send(self, message_id: str, body: bytes, group: str) -> None:
        """Take a task in."""
        if not self._window.is_new(message_id, self._world.time()):
            self._world.trace("swallowed duplicate", message_id)
            return
        self.sent += 1
        self.inject(message_id, body, group)
        again = self.duplicate_after()
        if again is not None:
            self._world.loop.call_later(again, self.inject, message_id, body, group)

    def inject(self, message_id: str, body: bytes, group: str = "") -> None:
        """Put a message into the queue, whatever its id."""
        self._numbers += 1
        self._items[self._numbers] = Item(self._numbers, message_id, body, group, self._world.now())
        self._world.notify(("activities", group))

    def receive(self, groups: Sequence[str], count_max: int) -> list[Item]:
        """Lock and return up to ``count_max`` tasks; each copy tells the lock it was received under."""
        now = self._world.time()
        taken: list[Item] = []
        for item in tuple(self._items.values()):
            if len(taken) == count_max:
                break
            if item.group not in groups or item.locked_until > now:
                continue
            item.count += 1
            if item.count > self._delivery_count_max:
                del self._items[item.number]
                self.dead.append(Dead(item, None, "MaxDeliveryCountExceeded", "delivered too often"))
                continue
            self._locks += 1
            item.lock = self._locks
            item.locked_until = now + self.lock_s
            self._world.notify_at(("activities", item.group), item.locked_until)
            taken.append(item)
        return taken

    def _held(self, number: int, lock: int) -> Item | None:
        item = self._items.get(number)
        if item is None or item.lock != lock or item.locked_until <= self._world.time():
            return None
        return item

    def renew(self, number: int, lock: int) -> bool:
        """Extend a lock; return whether it was still held."""
        item = self._held(number, lock)
        if item is None:
            return False
        item.locked_until = self._world.time() + self.lock_s
        self._world.notify_at(("activities", item.group), item.locked_until)
        return True

    def complete(self, number: int, lock: int) -> bool:
        """Remove a task; return whether its lock was still held."""
        if self._held(number, lock) is None:
            self._world.counts["F16"] += 1
            return False
        del self._items[number]
        return True

    def dead_letter(self, number: int, lock: int, reason: str, description: str) -> None:
        """Put a task aside, if its lock is still held."""
        item = self._held(number, lock)
        if item is not None:
            del self._items[number]
            self.dead.append(Dead(item, None, reason, description))

    def abandon(self, number: int, lock: int) -> None:
        """Give a task back."""
        item = self._held(number, lock)
        if item is not None:
            item.locked_until = -1.0
            self._world.notify(("activities", item.group))

    def recreate(self) -> None:
        """Lose all tasks."""
        self._items.clear()
        self._window.clear()

    def waiting(self) -> Sequence[Item]:
        """Return all tasks that are not completed, in order."""
        return tuple(self._items.values())

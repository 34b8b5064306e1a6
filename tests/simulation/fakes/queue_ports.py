"""The two queues as one worker sees them: the queue ports, through its gate, on the shared broker.

Neighbouring messages of one send are packed at random (an adapter may), so a resend may carry the same messages under
other broker ids. A message is encoded on sending and decoded on receiving, as on the wire.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import msgspec

from durabletask_azure.core.history import EventRaisedEvent, ExecutionTerminatedEvent
from durabletask_azure.core.messages import (
    Message,
    ToActivities,
    ToPartition,
    decode_messages,
    decode_task,
    encode_messages,
    encode_task,
)
from durabletask_azure.errors import ConfigurationError, HubUnavailableError, PartitionLostError
from durabletask_azure.ports import ActivityDelivery, DeadLetter, Delivery, PartitionSession
from tests.simulation.fakes.broker import Dead, Item, SessionLock
from tests.simulation.fakes.gate import Fault, Gate

__all__ = ["SimActivityQueue", "SimOrchestrationQueue", "SimSession"]

DEAD_LETTER_LOCK_S = 60.0
_PARTIAL = ("partial", "crash_partial")


@dataclass(frozen=True, slots=True)
class _Token:
    number: int
    lock: int


def pack_id(messages: Sequence[Message]) -> str:
    """Return the broker id of a pack: its only message's own, or the hash of all their ids."""
    if len(messages) == 1:
        return messages[0].id
    text = "\x1f".join(message.id for message in messages)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def read_pack(item: Item) -> tuple[tuple[Message, ...], str | None]:
    """Return the messages of a broker message, or why they cannot be read."""
    try:
        return decode_messages(item.body), None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return (), f"{type(error).__name__}: {error}"


async def receive_items(
    gate: Gate,
    op: str,
    take: Callable[[int], list[Item]],
    wait_for: Callable[[], tuple[object, float]],
    count_max: int,
    wait_s: float,
    closed: Callable[[], bool],
) -> list[Item]:
    """Receive as both queues do: as soon as there is one message, else nothing after the wait."""
    world = gate.world
    fault = await gate.begin(op)
    end = world.time() + wait_s
    try:
        while True:
            await gate.thaw()
            items = [] if closed() else take(count_max)
            if items or closed() or world.time() >= end:
                break
            key, until = wait_for()
            await world.wait(key, min(end, max(until, world.time())))
    except asyncio.CancelledError:
        # A process that stood still and is then told to end runs out of its time to stop: it is as good as killed.
        if not gate.dead and not gate.frozen_until:
            world.breaches.append(f"{gate.name} cancelled {op}")
        raise
    if fault is not None and fault.kind == "swallow":
        del items[: max(1, fault.count)]
    await gate.end(op, fault)
    return items


class SimSession:
    """A session of one partition, as the worker that accepted it sees it."""

    def __init__(self, gate: Gate, lock: SessionLock) -> None:
        self._gate = gate
        self._lock = lock
        self._broker = gate.world.sessions
        self._closed = False

    @property
    def partition(self) -> int:
        return self._lock.partition

    @property
    def lock(self) -> SessionLock:
        """The broker's own record of the session, for the hub that settles inside a transaction."""
        return self._lock

    def _take(self, count_max: int) -> list[Item]:
        return self._broker.receive(self._lock, count_max)

    def _wait_for(self) -> tuple[object, float]:
        return ("session", self._lock.partition), self._lock.until

    async def receive(self, count_max: int, wait_s: float) -> Sequence[Delivery]:
        if self._closed:
            return ()
        items = await receive_items(
            self._gate, "session.receive", self._take, self._wait_for, count_max, wait_s, lambda: self._closed
        )
        return [self._delivery(item) for item in items]

    def _delivery(self, item: Item) -> Delivery:
        messages, error = read_pack(item)
        for message in messages:
            self._count(message)
        return Delivery(item.id, messages, item.enqueued_at, item.count, _Token(item.number, 0), error)

    def _count(self, message: Message) -> None:
        """Note what of the fault catalogue a delivery is."""
        world = self._gate.world
        rows = world.table.rows(self._lock.partition)
        found = rows.instances.get(message.instance_id)
        if found is not None:
            if message.execution_id not in (None, found.row.execution_id):
                world.counts["F18"] += 1
        elif message.instance_id in rows.tombstones:
            world.counts["F33"] += 1
        elif isinstance(message.body, EventRaisedEvent | ExecutionTerminatedEvent):
            world.counts["F38"] += 1

    async def complete(self, deliveries: Sequence[Delivery]) -> None:
        numbers = [delivery.token.number for delivery in deliveries if isinstance(delivery.token, _Token)]
        assert len(numbers) == len(deliveries)

        def effect() -> None:
            self._check_open()
            self._broker.complete(self._lock, numbers)

        await self._gate.call("session.complete", effect)

    async def dead_letter(self, delivery: Delivery, reason: str, description: str) -> None:
        token = delivery.token
        assert isinstance(token, _Token)

        def effect() -> None:
            self._check_open()
            self._broker.dead_letter(self._lock, token.number, reason, description)

        await self._gate.call("session.dead_letter", effect)

    async def renew(self) -> None:
        def effect() -> None:
            self._check_open()
            self._broker.renew(self._lock)

        await self._gate.call("session.renew", effect)

    def _check_open(self) -> None:
        if self._closed:
            raise PartitionLostError("the session is closed")

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._gate.world.notify(("session", self._lock.partition))
        await self._gate.call("session.close", lambda: self._broker.release(self._lock))


class SimOrchestrationQueue:
    """The orchestration queue as one worker or client sees it."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._broker = gate.world.sessions

    async def accept(self, partition: int) -> PartitionSession | None:
        lock = await self._gate.call("queue.accept", lambda: self._broker.accept(partition, self._gate.name))
        return None if lock is None else SimSession(self._gate, lock)

    async def send(self, messages: Sequence[ToPartition]) -> None:
        await self.send_as("queue.send", messages)

    async def send_as(self, op: str, messages: Sequence[ToPartition]) -> None:
        """Send, under the name of the port call it belongs to."""
        if len({message.partition for message in messages}) > 1:
            self._gate.world.breaches.append(f"{self._gate.name} sent to several partitions at once")
        packs = self._packs(messages)
        fault = await self._gate.begin(op)
        self.put(packs if fault is None or fault.kind not in _PARTIAL else packs[: fault.count])
        await _end_of_send(self._gate, op, fault)

    def put(self, packs: Sequence[Sequence[ToPartition]]) -> None:
        """Give packs to the broker, at once."""
        world = self._gate.world
        for pack in packs:
            due = pack[0].deliver_at
            messages = tuple(item.message for item in pack)
            self._broker.send(
                pack[0].partition,
                pack_id(messages),
                encode_messages(messages),
                None if due is None else world.at(due),
            )

    def _packs(self, messages: Sequence[ToPartition]) -> list[list[ToPartition]]:
        packs: list[list[ToPartition]] = []
        for message in messages:
            joins = packs and message.deliver_at is None and packs[-1][0].deliver_at is None
            if joins and len(packs[-1]) < 8 and self._gate.random.random() < 0.5:
                packs[-1].append(message)
            else:
                packs.append([message])
        return packs

    async def cancel_scheduled(self, partition: int, message_ids: Sequence[str]) -> None:
        ids = tuple(message_ids)
        await self._gate.call("queue.cancel", lambda: self._broker.cancel_scheduled(partition, ids))

    async def dead_letters(self, count_max: int) -> Sequence[DeadLetter]:
        return await self._gate.call(
            "queue.dead_letters", lambda: _take_dead(self._gate, self._broker.dead, count_max)
        )

    async def settle_dead_letter(self, letter: DeadLetter) -> None:
        await self._gate.call("queue.settle_dead_letter", lambda: _settle_dead(self._broker.dead, letter))

    async def close(self) -> None:
        await self._gate.thaw()


class SimActivityQueue:
    """The activity queues as one worker sees them, receiving from ``groups``."""

    def __init__(self, gate: Gate, results: SimOrchestrationQueue, groups: Sequence[str] = ("",)) -> None:
        self._gate = gate
        self._broker = gate.world.activities
        self._results = results
        self._groups = tuple(groups)
        self._closed = False
        self._interrupts = 0

    async def send(self, tasks: Sequence[ToActivities]) -> None:
        fault = await self._gate.begin("activities.send")
        self.put(tasks if fault is None or fault.kind not in _PARTIAL else tasks[: fault.count])
        await _end_of_send(self._gate, "activities.send", fault)

    def put(self, tasks: Sequence[ToActivities]) -> None:
        """Give tasks to the broker, at once."""
        for item in tasks:
            self._broker.send(item.task.id, encode_task(item.task), item.group)

    def _take(self, count_max: int) -> list[Item]:
        return self._broker.receive(self._groups, count_max)

    def _wait_for(self) -> tuple[object, float]:
        return ("activities", self._groups[0]), self._gate.world.time() + 3600.0

    async def prepare_for(self, names: Collection[str]) -> None:
        raise ConfigurationError(
            f"this queue has one group of activities; {sorted(names)} cannot be told apart"
        )

    async def receive(
        self, count_max: int, wait_s: float, names: Collection[str] | None = None
    ) -> Sequence[ActivityDelivery]:
        if names is not None:
            await self.prepare_for(names)
        if self._closed:
            return ()
        items = await receive_items(
            self._gate,
            "activities.receive",
            self._take,
            self._wait_for,
            count_max,
            wait_s,
            lambda: self._closed,
        )
        return [_activity_delivery(item) for item in items]

    async def renew(self, deliveries: Sequence[ActivityDelivery]) -> Sequence[ActivityDelivery]:
        def effect() -> Sequence[ActivityDelivery]:
            return [item for item in deliveries if not self._broker.renew(*_numbers(item))]

        return await self._gate.call("activities.renew", effect)

    async def finish(self, results: Sequence[tuple[ActivityDelivery, ToPartition | None]]) -> None:
        for delivery, result in results:
            if result is not None:
                await self._results.send_as("activities.finish.send", [result])
            number, lock = _numbers(delivery)
            await self._gate.call(
                "activities.finish.complete",
                lambda number=number, lock=lock: self._broker.complete(number, lock),
            )

    async def abandon(self, deliveries: Sequence[ActivityDelivery]) -> None:
        def effect() -> None:
            for delivery in deliveries:
                self._broker.abandon(*_numbers(delivery))

        await self._gate.call("activities.abandon", effect)

    async def dead_letter(self, delivery: ActivityDelivery, reason: str, description: str) -> None:
        number, lock = _numbers(delivery)
        await self._gate.call(
            "activities.dead_letter", lambda: self._broker.dead_letter(number, lock, reason, description)
        )

    async def dead_letters(self, count_max: int) -> Sequence[DeadLetter]:
        return await self._gate.call(
            "activities.dead_letters", lambda: _take_dead(self._gate, self._broker.dead, count_max)
        )

    async def settle_dead_letter(self, letter: DeadLetter) -> None:
        await self._gate.call(
            "activities.settle_dead_letter", lambda: _settle_dead(self._broker.dead, letter)
        )

    async def close(self) -> None:
        self._closed = True
        for group in self._groups:
            self._gate.world.notify(("activities", group))
        await self._gate.thaw()


async def _end_of_send(gate: Gate, op: str, fault: Fault | None) -> None:
    if fault is not None and fault.kind == "crash_partial":
        gate.crash()
    if fault is not None and fault.kind == "partial":
        raise HubUnavailableError(f"{op}: the link broke after {fault.count} messages")
    await gate.end(op, fault)


def _numbers(delivery: ActivityDelivery) -> tuple[int, int]:
    token = delivery.token
    assert isinstance(token, _Token)
    return token.number, token.lock


def _activity_delivery(item: Item) -> ActivityDelivery:
    token = _Token(item.number, item.lock)
    try:
        return ActivityDelivery(item.id, decode_task(item.body), item.count, token)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return ActivityDelivery(item.id, None, item.count, token, f"{type(error).__name__}: {error}")


def _take_dead(gate: Gate, dead: Sequence[Dead], count_max: int) -> Sequence[DeadLetter]:
    now = gate.world.time()
    letters: list[DeadLetter] = []
    for entry in dead:
        if entry.locked_until > now or len(letters) == count_max:
            continue
        entry.locked_until = now + DEAD_LETTER_LOCK_S
        item = entry.item
        messages = () if entry.partition is None else read_pack(item)[0]
        task = _activity_delivery(item).task if entry.partition is None else None
        letters.append(
            DeadLetter(
                id=item.id,
                partition=entry.partition,
                messages=messages,
                task=task,
                reason=entry.reason,
                description=entry.description,
                delivery_count=item.count,
                enqueued_at=item.enqueued_at,
                token=entry,
            )
        )
    return letters


def _settle_dead(dead: list[Dead], letter: DeadLetter) -> None:
    if isinstance(letter.token, Dead) and letter.token in dead:
        dead.remove(letter.token)

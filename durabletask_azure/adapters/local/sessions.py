"""Messages to partitions: sending, and the sessions that receive them.

A session delivers in the order of the hub's time: a message's own, or for a scheduled one its due time if that is
later. It keeps in memory what it has delivered, and a mark of how far that went in a small mapped file, which outlives
the process. The next session counts one failed delivery for every message up to the mark that is still there, and puts
aside those that reached ``delivery_count_max``: so a message that kills its process again and again ends as a dead
letter, and a receive costs no write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec

from durabletask_azure.adapters.local.bell import Bell, wake
from durabletask_azure.adapters.local.bulk import as_places
from durabletask_azure.adapters.local.clock import from_us, to_us
from durabletask_azure.adapters.local.committer import After, Committer, Transaction
from durabletask_azure.adapters.local.dead import lock_letters, place_of, remove_letter
from durabletask_azure.adapters.local.handover import Finished, HandedTask, Handover
from durabletask_azure.adapters.local.liveness import HeldLock, Locks, Mark
from durabletask_azure.adapters.local.reader import Reader, Row
from durabletask_azure.adapters.local.rows import stored_outbound, write_outbound
from durabletask_azure.core.messages import Message, ToPartition, decode_messages, encode_messages
from durabletask_azure.errors import ConfigurationError, PartitionLostError
from durabletask_azure.ports import DeadLetter, Delivery

__all__ = ["LocalOrchestrationQueue", "LocalSession", "Places"]

_READY = (
    "SELECT seq, id, deliveries, body, NULL FROM messages INDEXED BY messages_ready"
    " WHERE partition = ? AND visible_at IS NULL AND seq > ? ORDER BY seq LIMIT ?"
)
_DUE = (
    "SELECT seq, id, deliveries, body, visible_at FROM messages INDEXED BY messages_due"
    " WHERE partition = ? AND visible_at IS NOT NULL AND visible_at <= ? ORDER BY visible_at, seq LIMIT ?"
)
_NEXT_DUE = (
    "SELECT visible_at, (SELECT seq FROM sqlite_sequence WHERE name = 'messages')"
    " FROM messages INDEXED BY messages_due"
    " WHERE partition = ? AND visible_at IS NOT NULL AND visible_at > ? ORDER BY visible_at LIMIT 1"
)
_COUNT_READY = (
    "UPDATE messages SET deliveries = deliveries + 1 WHERE partition = ? AND visible_at IS NULL AND seq <= ?"
)
_COUNT_DUE = (
    "UPDATE messages SET deliveries = deliveries + 1"
    " WHERE partition = ? AND visible_at IS NOT NULL AND visible_at <= ? AND seq <= ?"
)
_MOVE_EXHAUSTED = (
    "INSERT INTO dead(partition, id, reason, description, deliveries, enqueued_at, body)"
    " SELECT partition, id, 'MaxDeliveryCountExceeded', 'delivered ' || deliveries || ' times without success',"
    " deliveries, max(seq, coalesce(visible_at, 0)), body FROM messages WHERE partition = ? AND deliveries >= ?"
)
_DELETE_EXHAUSTED = "DELETE FROM messages WHERE partition = ? AND deliveries >= ?"
_MOVE = (
    "INSERT INTO dead(partition, id, reason, description, deliveries, enqueued_at, body)"
    " SELECT partition, id, ?, ?, deliveries + 1, max(seq, coalesce(visible_at, 0)), body FROM messages WHERE seq = ?"
)
_DELETE = "DELETE FROM messages WHERE seq IN (SELECT value FROM json_each(?))"
_DELETE_TASKS = "DELETE FROM tasks WHERE seq IN (SELECT value FROM json_each(?))"
_DELETE_TASK = "DELETE FROM tasks WHERE seq = ?"
_PUT_DOWN = "INSERT INTO messages(partition, id, deliveries, body, seq) VALUES(?, ?, ?, ?, ?)"
_PUT_ASIDE = (
    "INSERT INTO dead(partition, id, reason, description, deliveries, enqueued_at, body)"
    " VALUES(?, ?, ?, ?, ?, ?, ?)"
)
_NO_MARK: Mark = (0, 0, 0)
_HANDED_MAX = 1_000
"""Results a session takes in memory before they are handled; more of them are written."""
_log = logging.getLogger("durabletask_azure.hub")


class Places:
    """Where deliveries are: the rows of messages, and for results that were handed over the rows of their tasks."""

    __slots__ = ("messages", "tasks")

    def __init__(self, deliveries: Sequence[Delivery]) -> None:
        tokens = [delivery.token for delivery in deliveries]
        self.tasks = [token.place for token in tokens if isinstance(token, HandedTask)]
        self.messages: list[int] = []
        if len(self.tasks) < len(tokens):
            self.messages = [place_of(token) for token in tokens if not isinstance(token, HandedTask)]

    def delete(self, transaction: Transaction) -> None:
        """Delete what was handled."""
        if self.messages:
            transaction.execute(_DELETE, (as_places(self.messages),))
        if self.tasks:
            transaction.execute(_DELETE_TASKS, (as_places(self.tasks),))


class LocalSession:
    """The :class:`~durabletask_azure.ports.PartitionSession` of an embedded hub."""

    def __init__(
        self,
        partition: int,
        held: HeldLock,
        committer: Committer,
        reader: Reader,
        bell: Bell,
        handover: Handover,
    ) -> None:
        self._handover = handover
        self._handed: dict[int, Delivery] = {}
        """Results that were handed over and not yet received, in order, by the place of their task."""
        self._open: dict[int, Delivery] = {}
        """Results that were received and are not completed, likewise."""
        self._seen = -1
        """The partition's rings when its messages were last looked for and all found ones were taken."""
        self._next_due: tuple[int, int] | None = None
        self._partition = partition
        self._held = held
        self._committer = committer
        self._reader = reader
        self._bell = bell
        self._mark: Mark = _NO_MARK
        self._due: set[int] = set()
        self._closed = False

    @property
    def partition(self) -> int:
        return self._partition

    @property
    def is_closed(self) -> bool:
        """Whether the partition was given back."""
        return self._closed

    async def receive(self, count_max: int, wait_s: float) -> Sequence[Delivery]:
        loop = asyncio.get_running_loop()
        clock = self._committer.clock
        deadline = loop.time() + wait_s
        while not self._closed:
            rings = self._bell.count(self._partition)
            now_us = clock.now_us()
            deliveries = self._take(count_max, now_us, rings)
            if deliveries:
                return deliveries
            left_s = deadline - loop.time()
            if left_s <= 0:
                break
            if self._next_due is not None:
                # Another process may know better how late it is.
                visible_us, reached_us = self._next_due
                left_s = min(left_s, max(0, visible_us - clock.now_us(reached_us)) / 1e6 + 0.0002)
            await self._bell.wait(self._partition, rings, left_s)
        return []

    def hand(self, results: Sequence[Finished]) -> list[Finished]:
        """Take results in memory (:class:`~durabletask_azure.adapters.local.handover.ResultSink`)."""
        if self._closed:
            return list(results)
        handed, opened, left = self._handed, self._open, list[Finished]()
        room = _HANDED_MAX - len(handed) - len(opened)
        at = from_us(self._committer.clock.now_us())
        for one in results:
            task, result = one
            place = task.token
            assert isinstance(place, int) and result is not None
            if place in handed or place in opened:  # a repeated hand-over is no second one
                continue
            if room <= 0:
                left.append(one)
                continue
            room -= 1
            message = result.message
            handed[place] = Delivery(message.id, (message,), at, 1, HandedTask(place))
        wake(self._bell.rouse(self._partition))
        return left

    def _take(self, count_max: int, now_us: int, rings: int) -> list[Delivery]:
        """Take messages and what was handed over, in the order of the hub's time."""
        rows: list[Row] = []
        next_due = self._next_due
        must_look = rings != self._seen or (self._next_due is not None and self._next_due[0] <= now_us)
        if must_look:
            # Asked for before anything is taken: a failure here must not cost a message.
            next_due = self._reader.row(_NEXT_DUE, (self._partition, now_us))
            rows = self._waiting_messages(count_max, now_us)
        if not rows:
            deliveries, taken = self._take_handed(count_max), 0
        else:
            deliveries, taken = self._take_both(rows, count_max)
        if must_look and taken == len(rows) < count_max:
            self._seen, self._next_due = rings, next_due
        return deliveries

    def _take_handed(self, count_max: int) -> list[Delivery]:
        """Take the first results that were handed over."""
        taken = self._handed
        if len(taken) <= count_max:
            self._handed = {}
        else:
            taken = {place: taken.pop(place) for place in [*islice(taken, count_max)]}
        self._open.update(taken)
        return [*taken.values()]

    def _take_both(self, rows: Sequence[Row], count_max: int) -> tuple[list[Delivery], int]:
        """Take results and messages by their times; return them, and how many of the messages they are."""
        deliveries: list[Delivery] = []
        taken = 0
        while len(deliveries) < count_max and (taken < len(rows) or self._handed):
            first = next(iter(self._handed.values()), None)
            if taken < len(rows) and (first is None or _taken_in(rows[taken])[0] <= to_us(first.enqueued_at)):
                deliveries.append(_delivery(rows[taken]))
                taken += 1
            else:
                deliveries += self._take_handed(1)
        if taken:
            self._mark_taken(rows[:taken])
        return deliveries, taken

    def _waiting_messages(self, count_max: int, now_us: int) -> list[Row]:
        found = self._reader.rows(_READY, (self._partition, self._mark[0], count_max))
        scheduled = self._reader.rows(_DUE, (self._partition, now_us, count_max + len(self._due)))
        if scheduled:
            found.extend(row for row in scheduled if row[0] not in self._due)
            found.sort(key=_taken_in)
            del found[count_max:]
        return found

    def _mark_taken(self, rows: Sequence[Row]) -> None:
        place, due_us, due_place = self._mark
        for seq, _, _, _, visible_us in rows:
            if visible_us is None:
                place = max(place, seq)
            else:
                self._due.add(seq)
                due_us, due_place = max(due_us, visible_us), max(due_place, seq)
        self._mark = (place, due_us, due_place)
        self._held.write_mark(self._mark)

    def forget(self, places: Places) -> None:
        """Note that messages are gone."""
        if self._due:
            self._due.difference_update(places.messages)
        opened = self._open
        for place in places.tasks:
            opened.pop(place, None)

    def completed(self, places: Places) -> After:
        """Return what is to be done once messages are deleted, whether or not anybody still waits for that."""
        return lambda is_committed: self.forget(places) if is_committed else None

    async def complete(self, deliveries: Sequence[Delivery]) -> None:
        self._check()
        places = Places(deliveries)

        def work(transaction: Transaction) -> None:
            places.delete(transaction)
            transaction.after.append(self.completed(places))

        await self._committer.submit(work)

    async def dead_letter(self, delivery: Delivery, reason: str, description: str) -> None:
        self._check()
        places = Places([delivery])

        def work(transaction: Transaction) -> None:
            if places.tasks:
                letter = (self._partition, delivery.id, reason, description, 1, transaction.now_us)
                transaction.execute(_PUT_ASIDE, (*letter, encode_messages(delivery.messages)))
            for place in places.messages:
                transaction.execute(_MOVE, (reason, description, place))
            places.delete(transaction)
            transaction.after.append(self.completed(places))

        await self._committer.submit(work)

    async def renew(self) -> None:
        self._check()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._handover.close(self._partition, self)
        wake(self._bell.ring((self._partition,)))
        try:
            await self._put_down()
        finally:
            self._held.release()

    async def _put_down(self) -> None:
        """Write what was handed over and is not completed as messages, for the partition's next owner.

        What cannot be written runs again: its task is given back.
        """
        left = [(place, delivery, 1) for place, delivery in self._open.items()]
        left += [(place, delivery, 0) for place, delivery in self._handed.items()]
        rows: list[tuple[int, str, int, bytes]] = []
        for place, delivery, failed in left:
            try:
                rows.append((place, delivery.id, failed, encode_messages(delivery.messages)))
            except Exception:
                _log.exception("the result %s cannot be written; its activity runs again", delivery.id)
                self._handover.owe((place,))
        if not rows:
            return

        def work(transaction: Transaction) -> None:
            for place, message_id, failed, body in rows:
                # One that is gone was completed by a commit that was under way.
                if transaction.execute(_DELETE_TASK, (place,)).rowcount:
                    row = (self._partition, message_id, failed, body, transaction.next_seq())
                    transaction.execute(_PUT_DOWN, row)
            transaction.topics.append(self._partition)

        try:
            await self._committer.submit(work)
        except Exception as error:
            _log.warning("%d results could not be written; their activities run again: %s", len(rows), error)
            self._handover.owe(place for place, *_ in rows)

    def _check(self) -> None:
        if self._closed:
            raise PartitionLostError(f"the session of partition {self._partition} is closed")


class LocalOrchestrationQueue:
    """The :class:`~durabletask_azure.ports.OrchestrationQueue` of an embedded hub."""

    def __init__(
        self,
        committer: Committer,
        reader: Reader,
        bell: Bell,
        locks: Locks,
        *,
        partitions: int,
        delivery_count_max: int,
        lock_s: float,
        handover: Handover,
    ) -> None:
        self._handover = handover
        self._committer = committer
        self._reader = reader
        self._bell = bell
        self._locks = locks
        self._partitions = partitions
        self._delivery_count_max = delivery_count_max
        self._lock_s = lock_s
        self._sessions: set[LocalSession] = set()

    async def accept(self, partition: int) -> LocalSession | None:
        if not 0 <= partition < self._partitions:
            raise ConfigurationError(f"the hub has partitions 0 to {self._partitions - 1}, not {partition}")
        held = self._locks.hold(partition)
        if held is None:
            return None
        try:
            await self._count_failed(partition, held)
        except BaseException:
            held.release()
            raise
        session = LocalSession(partition, held, self._committer, self._reader, self._bell, self._handover)
        self._handover.open(partition, session)
        self._sessions = {other for other in self._sessions if not other.is_closed}
        self._sessions.add(session)
        return session

    async def _count_failed(self, partition: int, held: HeldLock) -> None:
        """Count a failed delivery for all that the session before delivered and nobody completed."""
        mark = held.read_mark()
        if mark == _NO_MARK:
            return
        place, due_us, due_place = mark
        exhausted = (partition, self._delivery_count_max)

        def work(transaction: Transaction) -> None:
            transaction.execute(_COUNT_READY, (partition, place))
            transaction.execute(_COUNT_DUE, (partition, due_us, due_place))
            if transaction.execute(_MOVE_EXHAUSTED, exhausted).rowcount:
                transaction.execute(_DELETE_EXHAUSTED, exhausted)

        # Should the process die between the two, these deliveries count twice, which is the safe side.
        await self._committer.submit(work, durable=False)
        held.write_mark(_NO_MARK)

    async def send(self, messages: Sequence[ToPartition]) -> None:
        stored = stored_outbound(messages)
        await self._committer.submit(lambda transaction: write_outbound(transaction, stored, self._handover))

    async def cancel_scheduled(self, partition: int, message_ids: Sequence[str]) -> None:
        doomed = [(partition, message_id) for message_id in message_ids]

        def work(transaction: Transaction) -> None:
            transaction.executemany(
                "DELETE FROM messages WHERE partition = ? AND id = ? AND visible_at IS NOT NULL", doomed
            )

        await self._committer.submit(work, durable=False)

    async def dead_letters(self, count_max: int) -> Sequence[DeadLetter]:
        return await lock_letters(self._committer, tasks=False, count_max=count_max, lock_s=self._lock_s)

    async def settle_dead_letter(self, letter: DeadLetter) -> None:
        await remove_letter(self._committer, letter)

    async def close(self) -> None:
        for session in list(self._sessions):
            await session.close()
        self._sessions.clear()


def _taken_in(row: Row) -> tuple[int, int]:
    return max(row[0], row[4] or 0), row[0]


def _delivery(row: tuple[Any, ...]) -> Delivery:
    seq, message_id, deliveries, body, _ = row
    messages: tuple[Message, ...] = ()
    failure: str | None = None
    try:
        messages = decode_messages(body)
    except msgspec.MsgspecError as error:
        failure = f"the message cannot be read: {error}"
    return Delivery(message_id, messages, from_us(_taken_in(row)[0]), deliveries + 1, seq, failure)

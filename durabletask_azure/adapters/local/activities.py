"""Activity tasks: competing consumers, and their results.

A task is taken by writing the consumer's name into its row. A consumer is one open hub; it lives as long as its OS lock
is held, so a task of a dead one is free again as soon as somebody looks, which every waiting receive does once a
second. A lock never runs out while the process lives. Each handing out counts; a task that comes back after
``delivery_count_max`` of them becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from durabletask_azure.adapters.local.bell import ACTIVITIES, Bell, wake
from durabletask_azure.adapters.local.bulk import as_places
from durabletask_azure.adapters.local.by_name import any_free_of, free_of, index_names
from durabletask_azure.adapters.local.committer import Committer, Transaction
from durabletask_azure.adapters.local.dead import lock_letters, place_of, remove_letter
from durabletask_azure.adapters.local.handover import Handover
from durabletask_azure.adapters.local.liveness import Locks
from durabletask_azure.adapters.local.reader import Reader
from durabletask_azure.adapters.local.rows import stored_outbound, write_outbound
from durabletask_azure.core.messages import ActivityTask, ToActivities, ToPartition, decode_task
from durabletask_azure.errors import HubUnavailableError
from durabletask_azure.ports import ActivityDelivery, DeadLetter

__all__ = ["LocalActivityQueue"]

_CHECK_S = 1.0
_ANY_FREE = "SELECT 1 FROM tasks INDEXED BY tasks_free WHERE grp = ? AND locked_by IS NULL LIMIT 1"
_TAKE = (
    "UPDATE tasks SET locked_by = ?, deliveries = deliveries + 1 WHERE seq IN (SELECT seq FROM tasks"
    " INDEXED BY tasks_free WHERE grp = ? AND locked_by IS NULL ORDER BY seq LIMIT ?)"
    " RETURNING seq, id, deliveries, body"
)
_TAKE_PLACES = (
    "UPDATE tasks SET locked_by = ?, deliveries = deliveries + 1 WHERE seq IN (SELECT value FROM json_each(?))"
    " RETURNING seq, id, deliveries, body"
)
_DELETE = "DELETE FROM tasks WHERE seq = ?"
_DELETE_ALL = "DELETE FROM tasks WHERE seq IN (SELECT value FROM json_each(?))"
_MOVE = (
    "INSERT INTO dead(partition, id, reason, description, deliveries, enqueued_at, body)"
    " SELECT NULL, id, ?, ?, deliveries, enqueued_at, body FROM tasks WHERE seq = ?"
)
_FREE_ALL = "UPDATE tasks SET locked_by = NULL WHERE locked_by = ?"
_HOLDERS = "SELECT DISTINCT locked_by FROM tasks INDEXED BY tasks_locked WHERE locked_by IS NOT NULL"
_MOVE_EXHAUSTED = (
    "INSERT INTO dead(partition, id, reason, description, deliveries, enqueued_at, body)"
    " SELECT NULL, id, 'MaxDeliveryCountExceeded', 'delivered ' || deliveries || ' times without success',"
    " deliveries, enqueued_at, body FROM tasks WHERE locked_by = ? AND deliveries >= ?"
)
_DELETE_EXHAUSTED = "DELETE FROM tasks WHERE locked_by = ? AND deliveries >= ?"
_GIVEN_BACK = "given back"
"""Holder of tasks on their way back, inside a transaction only; no consumer has this name."""


class LocalActivityQueue:
    """The :class:`~durabletask_azure.ports.ActivityQueue` of an embedded hub, for some activity groups."""

    def __init__(
        self,
        committer: Committer,
        reader: Reader,
        bell: Bell,
        locks: Locks,
        *,
        groups: Sequence[str],
        delivery_count_max: int,
        lock_s: float,
        handover: Handover,
    ) -> None:
        self._handover = handover
        self._committer = committer
        self._reader = reader
        self._bell = bell
        self._locks = locks
        self._groups = tuple(groups)
        self._delivery_count_max = delivery_count_max
        self._lock_s = lock_s
        self._checked_at = float("-inf")
        self._interrupts = 0
        self._owed: list[tuple[str, int, str]] = []
        self._closed = False
        self._has_names = False
        self._none_free = -1
        """How often the bell had rung before a look that found no task of any name free."""

    async def send(self, tasks: Sequence[ToActivities]) -> None:
        stored = stored_outbound(tasks)
        await self._committer.submit(lambda transaction: write_outbound(transaction, stored, self._handover))

    async def prepare_for(self, names: Collection[str]) -> None:
        # The names do not matter: any can be received alone.
        if not self._has_names:
            await self._committer.submit(index_names)
            self._has_names = True

    async def receive(
        self, count_max: int, wait_s: float, names: Collection[str] | None = None
    ) -> Sequence[ActivityDelivery]:
        if names is not None:
            await self.prepare_for(names)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        interrupts = self._interrupts
        while not self._closed and interrupts == self._interrupts:
            seen = self._bell.count(ACTIVITIES)
            self._owed += [
                (_GIVEN_BACK, place, self._locks.process) for place in self._handover.debts_taken()
            ]
            if self._owed:
                await self._give_back()
            if (names is not None or seen != self._none_free) and self._any_free(names):
                rows = await self._committer.submit(
                    lambda transaction: self._take(transaction, count_max, names), durable=False
                )
                if rows:
                    return [_delivery(row) for row in rows]
            elif names is None:
                self._none_free = seen
            await self._free_tasks_of_the_dead()
            left_s = deadline - loop.time()
            if left_s <= 0:
                break
            handed = await self._handed(count_max, names, seen, min(left_s, _CHECK_S))
            if handed:
                return handed
            self._none_free = -1  # another process may have told nobody
        return []

    async def _handed(
        self, count_max: int, names: Collection[str] | None, seen: int, timeout_s: float
    ) -> Sequence[ActivityDelivery]:
        """Wait for a ring, and return what was handed over meanwhile."""
        waiter = self._bell.attend(ACTIVITIES)
        consumer = self._handover.enter(self._groups, names, count_max, waiter)
        try:
            try:
                if self._bell.count(ACTIVITIES) == seen:
                    await self._bell.until(ACTIVITIES, waiter, timeout_s)
                else:
                    self._bell.leave(ACTIVITIES, waiter)
            finally:
                self._handover.leave(consumer)
            return await consumer.handed()
        except BaseException:
            consumer.abandon(self._owe)
            raise

    def _owe(self, deliveries: Sequence[ActivityDelivery]) -> None:
        process = self._locks.process
        self._owed += [(_GIVEN_BACK, place_of(delivery.token), process) for delivery in deliveries]

    def _any_free(self, names: Collection[str] | None) -> bool:
        if names is not None:
            return any(any_free_of(self._reader, group, names) for group in self._groups)
        return any(self._reader.row(_ANY_FREE, (group,)) for group in self._groups)

    def _take(
        self, transaction: Transaction, count_max: int, names: Collection[str] | None
    ) -> list[tuple[Any, ...]]:
        taken: list[tuple[Any, ...]] = []
        for group in self._groups:
            left = count_max - len(taken)
            if left <= 0:
                break
            if names is None:
                taking = transaction.execute(_TAKE, (self._locks.process, group, left))
            else:
                places = msgspec.json.encode(free_of(transaction, group, names, left)).decode()
                taking = transaction.execute(_TAKE_PLACES, (self._locks.process, places))
            taken.extend(taking.fetchall())
        # RETURNING promises no order; the queue does.
        taken.sort()
        return taken

    async def _free_tasks_of_the_dead(self) -> None:
        now = time.monotonic()
        if now - self._checked_at < _CHECK_S:
            return
        self._checked_at = now
        for (holder,) in self._reader.rows(_HOLDERS, ()):
            if self._locks.is_dead(holder):
                await self._free(holder)

    async def _free(self, holder: str) -> None:
        def work(transaction: Transaction) -> None:
            self._bury(transaction, holder)
            transaction.execute(_FREE_ALL, (holder,))
            transaction.topics.append(ACTIVITIES)

        await self._committer.submit(work, durable=False)

    def _bury(self, transaction: Transaction, holder: str) -> None:
        exhausted = (holder, self._delivery_count_max)
        if transaction.execute(_MOVE_EXHAUSTED, exhausted).rowcount:
            transaction.execute(_DELETE_EXHAUSTED, exhausted)

    async def renew(self, deliveries: Sequence[ActivityDelivery]) -> Sequence[ActivityDelivery]:
        # The lock is the process's own life.
        return ()

    async def finish(self, results: Sequence[tuple[ActivityDelivery, ToPartition | None]]) -> None:
        # Decided once: while the others are written, sessions may open and close.
        handed, written = self._handover.part(results)
        if written:
            await self._write(written)
        left = self._handover.hand(handed)
        if left:
            await self._write(left)

    async def _write(self, results: Sequence[tuple[ActivityDelivery, ToPartition | None]]) -> None:
        done = as_places([place_of(delivery.token) for delivery, _ in results])
        stored = stored_outbound([result for _, result in results if result is not None])

        def work(transaction: Transaction) -> None:
            write_outbound(transaction, stored, self._handover)
            transaction.execute(_DELETE_ALL, (done,))

        # Not waiting for the disk loses nothing: with the power gone the task is still there and runs again, and the
        # turn that sees the result is committed durably, behind it.
        await self._committer.submit(work, durable=False)

    async def abandon(self, deliveries: Sequence[ActivityDelivery]) -> None:
        # Noted until it is done: a living process's locks never run out, so with a full disk these would stay taken.
        self._owe(deliveries)
        await self._give_back()

    async def _give_back(self) -> None:
        # Each is in one attempt only: a second one could free what this process has taken again.
        given, self._owed = self._owed, []

        def work(transaction: Transaction) -> None:
            transaction.executemany("UPDATE tasks SET locked_by = ? WHERE seq = ? AND locked_by = ?", given)
            self._bury(transaction, _GIVEN_BACK)
            transaction.execute(_FREE_ALL, (_GIVEN_BACK,))
            transaction.topics.append(ACTIVITIES)

        try:
            await self._committer.submit(work, durable=False)
        except HubUnavailableError:
            self._owed += given
            raise

    async def dead_letter(self, delivery: ActivityDelivery, reason: str, description: str) -> None:
        place = place_of(delivery.token)

        def work(transaction: Transaction) -> None:
            transaction.execute(_MOVE, (reason, description, place))
            transaction.execute(_DELETE, (place,))

        await self._committer.submit(work)

    def interrupt(self) -> None:
        """End the receives that wait now, empty; to be called in an event loop or from any thread."""
        self._interrupts += 1
        wake(self._bell.ring((ACTIVITIES,)))

    async def dead_letters(self, count_max: int) -> Sequence[DeadLetter]:
        return await lock_letters(self._committer, tasks=True, count_max=count_max, lock_s=self._lock_s)

    async def settle_dead_letter(self, letter: DeadLetter) -> None:
        await remove_letter(self._committer, letter)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            wake(self._bell.ring((ACTIVITIES,)))

    async def release(self) -> None:
        """Give back every task this open hub still has; called once, when the hub is closed."""
        await self._free(self._locks.process)


def _delivery(row: tuple[Any, ...]) -> ActivityDelivery:
    seq, task_id, deliveries, body = row
    task: ActivityTask | None = None
    failure: str | None = None
    try:
        task = decode_task(body)
    except msgspec.MsgspecError as error:
        failure = f"the task cannot be read: {error}"
    return ActivityDelivery(task_id, task, deliveries, seq, failure)

"""Hand-overs inside one open hub: new tasks to its own activity loop, results to the partitions it holds itself.

A task that a commit schedules while a consumer of this hub waits is inserted as taken by it, and handed over when the
commit is done: nobody has to look for it. A result for a partition whose session this hub holds is handed to that
session; its task's row stays, taken, until the turn that handles the result deletes it in a transaction of its own.
So a step of an orchestration is one transaction.

Nothing is lost by it. If the process dies, what it had taken is free again and runs again. If a session is let go of,
results it was handed and has not completed are written as messages, in place of their tasks. A task that was handed out
before has its result written at once, so that a result that kills its process is counted as any other message.

Sessions and receives belong to one event loop; only :meth:`Handover.claim` is called by the writer, in its thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Protocol

import msgspec

from durabletask_azure.core.messages import ActivityTask, ToPartition
from durabletask_azure.ports import ActivityDelivery

__all__ = ["Consumer", "Finished", "HandedTask", "Handover", "ResultSink"]

Finished = tuple[ActivityDelivery, ToPartition | None]
"""A task and the message of its result."""


class HandedTask(msgspec.Struct, frozen=True, gc=False):
    """Token of a result that was handed over: the row of the task it came from."""

    place: int


class ResultSink(Protocol):
    """A session that takes results in memory."""

    def hand(self, results: Sequence[Finished]) -> list[Finished]:
        """Take the results of tasks; return those that have to be written instead."""
        ...


class Consumer:
    """One receive that waits for tasks: which and how many it may be handed, and what it was handed."""

    __slots__ = ("_claims", "_groups", "_handed", "_names", "_room", "_settled", "_waiter", "refused")

    def __init__(
        self,
        groups: Sequence[str],
        names: Collection[str] | None,
        room: int,
        waiter: asyncio.Future[None],
    ) -> None:
        self._groups = groups
        self._names = names
        self.refused: Callable[[list[ActivityDelivery]], None] | None = None
        """Takes what is handed over after the receive was cancelled."""
        self._room = room
        self._waiter = waiter
        self._claims = 0
        """Counted by the writer's thread alone, as ``_settled`` is by the loop's: one count would need a lock."""
        self._settled = 0
        self._handed: list[ActivityDelivery] = []

    def wants(self, group: str, name: str) -> bool:
        """Whether a task of an activity may be handed to it, and it has a place for one."""
        return self._room > 0 and group in self._groups and (self._names is None or name in self._names)

    def claim(self, count: int) -> int:
        """Take places for so many tasks, or as many as there are; by the writer, under the hand-over's lock."""
        count = min(count, self._room)
        self._room -= count
        self._claims += count
        return count

    def settle(self, deliveries: Sequence[ActivityDelivery], committed: bool) -> None:
        """Hand over what was claimed for this consumer and is committed, or take note that it is not."""
        self._settled += len(deliveries)
        if committed:
            self._handed.extend(deliveries)
        if self.refused is not None:
            self._refuse(self.refused)
        if not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Claim no more; under the hand-over's lock."""
        self._room = 0

    async def handed(self) -> Sequence[ActivityDelivery]:
        """Return what was handed over, after the commits that are under way. To be called once, when closed."""
        while self._claims != self._settled:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._handed

    def abandon(self, refused: Callable[[list[ActivityDelivery]], None]) -> None:
        """Give back what was handed over and what still will be."""
        self.refused = refused
        self._refuse(refused)

    def _refuse(self, refused: Callable[[list[ActivityDelivery]], None]) -> None:
        handed, self._handed = self._handed, []
        if handed:
            refused(handed)


class Handover:
    """The waiting consumers and the sessions of one open hub."""

    def __init__(self, process: str, is_alone: Callable[[], bool], shared_claims_max: int) -> None:
        """``process`` is what this open hub takes tasks as; ``is_alone`` tells whether no other process has it open.

        Where others may want some, one waiting consumer is handed ``shared_claims_max`` tasks at most.
        """
        self.process = process
        self._is_alone = is_alone
        self._shared_claims_max = shared_claims_max
        self._lock = threading.Lock()
        self._consumers: list[Consumer] = []
        self._sessions: dict[int, ResultSink] = {}
        self._debts: list[int] = []

    # ------------------------------------------------------------ tasks

    def enter(
        self,
        groups: Sequence[str],
        names: Collection[str] | None,
        room: int,
        waiter: asyncio.Future[None],
    ) -> Consumer:
        """Let a receive wait that has found no free task; ``waiter`` is resolved when something is handed over."""
        room = room if self._is_alone() else min(room, self._shared_claims_max)
        consumer = Consumer(groups, names, room, waiter)
        with self._lock:
            self._consumers.append(consumer)
        return consumer

    def leave(self, consumer: Consumer) -> None:
        """Hand nothing more to a consumer than what is claimed for it."""
        with self._lock:
            consumer.close()
            self._consumers.remove(consumer)

    def claim(self, tasks: Sequence[tuple[ActivityTask, str, object]]) -> list[Consumer | None]:
        """Take places for new tasks, each with its group; return who gets which, ``None`` for one that is left free.

        Once one of an activity is free, so are all behind it: they are taken in their order.
        """
        claims: list[Consumer | None] = []
        free: set[str] = set()
        with self._lock:
            for (group, name), alike in groupby([(group, task.name) for task, group, _ in tasks]):
                left = len([*alike])
                while left:
                    consumer = None if name in free else self._who_wants(group, name)
                    if consumer is None:
                        free.add(name)
                        claims += [None] * left
                        break
                    count = consumer.claim(left)
                    claims += [consumer] * count
                    left -= count
        return claims

    def _who_wants(self, group: str, name: str) -> Consumer | None:
        for consumer in self._consumers:
            if consumer.wants(group, name):
                return consumer
        return None

    # ------------------------------------------------------------ results

    def open(self, partition: int, session: ResultSink) -> None:
        """Let a session take results of its partition."""
        self._sessions[partition] = session

    def close(self, partition: int, session: ResultSink) -> None:
        """Hand nothing to a session any more."""
        if self._sessions.get(partition) is session:
            del self._sessions[partition]

    def owe(self, places: Iterable[int]) -> None:
        """Note tasks whose results are lost: they have to be given back, and run again."""
        self._debts += places

    def debts_taken(self) -> list[int]:
        """Return the tasks to give back, once each."""
        debts, self._debts = self._debts, []
        return debts

    def part(self, results: Sequence[Finished]) -> tuple[dict[int, list[Finished]], list[Finished]]:
        """Return the results that may be handed over, by partition, and those that have to be written.

        A result is handed to a session that is open here, and only that of a task handed out once.
        """
        sessions = self._sessions
        handed: dict[int, list[Finished]] = {}
        written: list[Finished] = []
        for one in results:
            delivery, result = one
            if result is None or delivery.delivery_count != 1 or result.partition not in sessions:
                written.append(one)
            elif result.partition in handed:
                handed[result.partition].append(one)
            else:
                handed[result.partition] = [one]
        return handed, written

    def hand(self, results: Mapping[int, Sequence[Finished]]) -> list[Finished]:
        """Hand results to the sessions of their partitions; return those that have to be written."""
        left: list[Finished] = []
        for partition, own in results.items():
            session = self._sessions.get(partition)
            left += own if session is None else session.hand(own)
        return left

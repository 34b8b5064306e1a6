"""Sends what a partition committed: one ordered stream per destination, never given up, confirmed by commit number.

``confirmed`` is the newest commit all of whose sends, and all of whose predecessors' sends, are done: the lock row's
``sent`` (DESIGN 3). Streams are independent, so a full activity queue does not hold up messages to partitions, nor
receiving. What would wait for such a queue beyond ``Settings.unsent_tasks_max`` is not kept here: only the names of the
instances are, whose tasks are read again from their histories, as a new owner does it, when there is room.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec

from durabletask_azure.core.messages import Outbound, ToActivities, ToPartition
from durabletask_azure.engine.counters import Counters
from durabletask_azure.engine.retrying import patiently
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings

__all__ = ["Sender"]

_SEND_MESSAGES_MAX = 500
_READING = -1
"""Stands among the destinations for the task that reads again what was not kept."""
Destination = int | str
ReadAgain = Callable[[str, int, int], Awaitable[Sequence[Outbound]]]
"""Returns what an instance sends by its commits from one to another, as storage has it."""


class Sender:
    """The outbound streams of one partition owner."""

    def __init__(
        self,
        ports: HubPorts,
        settings: Settings,
        counters: Counters,
        keep_going: Callable[[], bool],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        read_again: ReadAgain,
    ) -> None:
        self._ports = ports
        self._settings = settings
        self._counters = counters
        self._keep_going = keep_going
        self._spawn = spawn
        self._read_again = read_again
        self._tasks_max = settings.unsent_tasks_max
        self._tasks_kept = 0
        self._left_out: OrderedDict[str, _LeftOut] = OrderedDict()
        self._room = asyncio.Event()
        self._streams: dict[Destination, list[tuple[int, Outbound]]] = {}
        self._tasks: dict[Destination, asyncio.Task[None]] = {}
        self._open: OrderedDict[int, _Batch] = OrderedDict()
        self._idle = asyncio.Event()
        self._idle.set()
        self.confirmed = 0
        self.changed = asyncio.Event()
        """Set whenever ``confirmed`` moves."""

    @property
    def backlog(self) -> int:
        """Messages not yet confirmed."""
        return sum(batch.left for batch in self._open.values())

    def unsent(self) -> list[str]:
        """Return the instances named by commits that are not confirmed, oldest first, each once."""
        names: dict[str, None] = {}
        for batch in self._open.values():
            names.update(batch.names)
        return list(names)

    def begin(self, n: int, names: Sequence[str]) -> None:
        """Note that commit ``n`` (being made) has messages of these instances; followed by :meth:`end` or
        :meth:`withdraw`."""
        batch = self._open.setdefault(n, _Batch())
        batch.names.update(dict.fromkeys(names))

    def add(self, n: int, outbound: Sequence[Outbound], *, since: int | None = None) -> None:
        """Send messages of commit ``n``, or, read from storage, of the commits from ``since`` on up to ``n``."""
        batch = self._open.setdefault(n, _Batch())
        batch.left += len(outbound)
        is_full = self._tasks_kept >= self._tasks_max
        if is_full or self._left_out:
            outbound = self._leave_out(n, outbound, n if since is None else since, is_full)
        self._enqueue(n, outbound)

    def _enqueue(self, n: int, outbound: Sequence[Outbound]) -> None:
        for out in outbound:
            if isinstance(out, ToPartition):
                key: Destination = out.partition
            else:
                key = out.group
                self._tasks_kept += 1
            self._streams.setdefault(key, []).append((n, out))
            if key not in self._tasks:
                self._begin(key, self._drain(key))

    def _begin(self, key: Destination, work: Coroutine[Any, Any, None]) -> None:
        self._idle.clear()
        self._tasks[key] = self._spawn(work)

    def _ended(self, key: Destination) -> None:
        del self._tasks[key]
        if not self._tasks:
            self._idle.set()

    def _leave_out(self, n: int, outbound: Sequence[Outbound], since: int, is_full: bool) -> list[Outbound]:
        """Note whose tasks are to be read again, and return what else there is.

        All tasks of an instance's commit go one way; while older ones of it are to be read again, later ones are too.
        """
        kept: list[Outbound] = []
        for out in outbound:
            if isinstance(out, ToPartition) or not (is_full or out.task.instance_id in self._left_out):
                kept.append(out)
                continue
            left = self._left_out.setdefault(out.task.instance_id, _LeftOut(since))
            left.counts[n] = left.counts.get(n, 0) + 1
        if self._left_out and _READING not in self._tasks:
            self._begin(_READING, self._read())
        return kept

    async def _read(self) -> None:
        """Read again what was left out, an instance at a time, whenever there is room."""
        while self._left_out:
            while self._tasks_kept >= self._tasks_max:
                self._room.clear()
                await self._room.wait()
            instance_id, left = self._left_out.popitem(last=False)
            last = max(left.counts)
            found = await self._read_again(instance_id, left.since, last)
            tasks = [out for out in found if isinstance(out, ToActivities)]
            # The oldest of its commits answers for all of them: those after it cannot be confirmed before it.
            for n, count in left.counts.items():
                self._open[n].left -= count
            first = min(left.counts)
            self._open[first].left += len(tasks)
            self._enqueue(first, tasks)
            self._confirm()
        self._ended(_READING)

    def withdraw(self, n: int) -> None:
        """Forget commit ``n``: it was not made after all."""
        self._open.pop(n, None)

    def end(self, n: int) -> None:
        """Note that no more messages of commit ``n`` will follow."""
        self._open.setdefault(n, _Batch()).is_whole = True
        self._confirm()

    async def flush(self) -> None:
        """Wait until everything added is sent."""
        await self._idle.wait()

    def stop(self) -> None:
        """Send nothing more."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self._idle.set()

    async def _drain(self, key: Destination) -> None:
        stream = self._streams[key]
        while stream:
            entries = stream[:_SEND_MESSAGES_MAX]
            del stream[: len(entries)]
            await patiently(
                self._ports.clock,
                self._settings,
                f"sending {len(entries)} messages to {f'partition {key}' if isinstance(key, int) else 'activities'}",
                lambda entries=entries: self._send(entries),
                keep_going=self._keep_going,
            )
            self._counters.messages_sent += len(entries)
            if not isinstance(key, int):
                self._tasks_kept -= len(entries)
                self._room.set()
            for n, _ in entries:
                self._open[n].left -= 1
            self._confirm()
        self._ended(key)

    async def _send(self, entries: Sequence[tuple[int, Outbound]]) -> None:
        partitions = [
            msgspec.structs.replace(
                out, message=msgspec.structs.replace(out.message, sender_sent=self.confirmed)
            )
            for _, out in entries
            if isinstance(out, ToPartition)
        ]
        if partitions:
            await self._ports.orchestrations.send(partitions)
        tasks = [out for _, out in entries if isinstance(out, ToActivities)]
        if tasks:
            await self._ports.activities.send(tasks)

    def _confirm(self) -> None:
        while self._open:
            n, batch = next(iter(self._open.items()))
            if batch.left or not batch.is_whole:
                return
            del self._open[n]
            self.confirmed = max(self.confirmed, n)
            self.changed.set()


class _Batch:
    __slots__ = ("is_whole", "left", "names")

    def __init__(self) -> None:
        self.left = 0
        self.is_whole = False
        self.names: dict[str, None] = {}


class _LeftOut:
    """Tasks of one instance that are not kept: from which commit on, and how many of each."""

    __slots__ = ("counts", "since")

    def __init__(self, since: int) -> None:
        self.since = since
        self.counts: dict[int, int] = {}

"""Sends what a partition committed: one ordered stream per destination, never given up, confirmed by commit number.

``confirmed`` is the newest commit all of whose sends, and all of whose predecessors' sends, are done: the lock row's
``sent`` (DESIGN 3). Streams are independent, so a full activity queue does not hold up messages to partitions.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from durabletask_azure.core.messages import Outbound, ToActivities, ToPartition
from durabletask_azure.engine.counters import Counters
from durabletask_azure.engine.retrying import patiently
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings

__all__ = ["Sender"]

_SEND_MESSAGES_MAX = 500
Destination = int | str


class Sender:
    """The outbound streams of one partition owner."""

    def __init__(
        self,
        ports: HubPorts,
        settings: Settings,
        counters: Counters,
        *,
        keep_going: Callable[[], bool],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._ports = ports
        self._settings = settings
        self._counters = counters
        self._keep_going = keep_going
        self._spawn = spawn
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

    def add(self, n: int, outbound: Sequence[Outbound]) -> None:
        """Send messages of commit ``n``."""
        batch = self._open.setdefault(n, _Batch())
        batch.left += len(outbound)
        for out in outbound:
            key: Destination = out.partition if isinstance(out, ToPartition) else out.group
            self._streams.setdefault(key, []).append((n, out))
            if key not in self._tasks:
                self._idle.clear()
                self._tasks[key] = self._spawn(self._drain(key))

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
            for n, _ in entries:
                self._open[n].left -= 1
            self._confirm()
        del self._tasks[key]
        if not self._tasks:
            self._idle.set()

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

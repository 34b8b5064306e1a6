"""How waiting clients hear of a change: at once from a commit of this process, else from the lock rows (``rings.py``).

One poll for all who wait on one opening of a hub: it reads the lock row of each partition that somebody waits on,
quickly at first and ever more slowly while nothing comes of it, never more than ``Settings.watch_reads_per_s_max`` rows
a second, and no row of a partition that this process has just committed to. Waiting for a thousand instances costs what
waiting for one does.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Collection, Iterable
from time import monotonic
from weakref import WeakSet, WeakValueDictionary

from durabletask_azure.adapters.tables.keys import LOCK
from durabletask_azure.adapters.tables.rings import Ring, short_name
from durabletask_azure.adapters.tables.table import Table
from durabletask_azure.core.partitioning import partition_name
from durabletask_azure.errors import TaskHubError
from durabletask_azure.settings import Settings

__all__ = ["LockRowSignal", "Room", "room_of"]

_SLOWER = 1.5
_OWN_S = 2.0
"""How long after a commit of this process the lock row of its partition need not be read."""
_log = logging.getLogger("durabletask_azure.adapters.tables")
_rooms: WeakValueDictionary[tuple[str, str], Room] = WeakValueDictionary()
_rooms_lock = threading.Lock()


class Room:
    """All in this process, on whatever loop, who wait for or make changes of one table."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._signals: WeakSet[LockRowSignal] = WeakSet()
        self.committed_at: dict[int, float] = {}

    def join(self, signal: LockRowSignal) -> None:
        """Have a signal told of all changes."""
        with self._lock:
            self._signals.add(signal)

    def tell(self, partition: int, changed: Collection[bytes], ended: Collection[bytes]) -> None:
        """Wake whoever waits for instances by these names; ``ended`` are also among ``changed``."""
        with self._lock:
            signals = [signal for signal in self._signals if signal.is_waited_on]
        for signal in signals:
            signal.tell(partition, changed, ended)


def room_of(table: Table) -> Room:
    """Return the room of a table; all who ask in this process get the same one."""
    with _rooms_lock:
        room = _rooms.get(table.address)
        if room is None:
            room = _rooms[table.address] = Room()
        return room


class _Watch:
    """The :class:`~durabletask_azure.ports.InstanceWatch` of this adapter."""

    __slots__ = ("_signal", "anchored", "ended", "event", "name", "partition")

    def __init__(self, signal: LockRowSignal, partition: int, name: bytes, *, ended: bool) -> None:
        self._signal = signal
        self.partition = partition
        self.name = name
        self.ended = ended
        self.event = asyncio.Event()
        self.anchored = False
        """Whether every change since the watch was made is sure to be seen by the poll."""

    async def wait(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self.event.wait()
        except TimeoutError:
            return
        self.event.clear()

    def close(self) -> None:
        self._signal.leave(self)


class _Partition:
    """The watches of one partition, and how far its rings were read."""

    __slots__ = ("changed", "ended", "etag", "watches")

    def __init__(self) -> None:
        self.watches: dict[bytes, set[_Watch]] = {}
        self.etag: str | None = None
        """Of the lock row as it was last read; ``None`` before that."""
        self.ended = Ring()
        self.changed = Ring()

    def all(self) -> Iterable[_Watch]:
        return (watch for group in self.watches.values() for watch in group)

    def named(self, changed: Collection[bytes], ended: Collection[bytes]) -> Iterable[_Watch]:
        for name in changed:
            for watch in self.watches.get(name, ()):
                if not watch.ended or name in ended:
                    yield watch


class LockRowSignal:
    """The :class:`~durabletask_azure.ports.ChangeSignal` of one opening of a hub; belongs to one loop."""

    is_prompt = True

    def __init__(self, table: Table, room: Room, settings: Settings) -> None:
        self._table = table
        self._room = room
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._partitions: dict[int, _Partition] = {}
        self._suspects: dict[_Watch, None] = {}
        self._poll: asyncio.Task[None] | None = None
        self._pause_s = settings.poll_s_min
        self._hurry = asyncio.Event()
        room.join(self)

    @property
    def is_waited_on(self) -> bool:
        """Whether there is any watch."""
        return bool(self._partitions)

    def watch(self, partition: int, instance_id: str, *, ended: bool = False) -> _Watch:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        watch = _Watch(self, partition, short_name(instance_id), ended=ended)
        place = self._partitions.setdefault(partition, _Partition())
        place.watches.setdefault(watch.name, set()).add(watch)
        watch.anchored = place.etag is not None
        self._pause_s = self._settings.poll_s_min
        self._hurry.set()
        if self._poll is None:
            self._poll = asyncio.create_task(self._keep_looking())
        return watch

    def leave(self, watch: _Watch) -> None:
        """Forget a watch; doing it twice is harmless."""
        self._suspects.pop(watch, None)
        place = self._partitions.get(watch.partition)
        group = None if place is None else place.watches.get(watch.name)
        if place is None or group is None:
            return
        group.discard(watch)
        if not group:
            del place.watches[watch.name]
        if not place.watches:
            del self._partitions[watch.partition]

    def tell(self, partition: int, changed: Collection[bytes], ended: Collection[bytes]) -> None:
        """Wake watches, from any thread."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            if loop is asyncio.get_running_loop():
                self._wake_named(partition, changed, ended)
                return
        except RuntimeError:
            pass  # a thread without a loop
        try:
            loop.call_soon_threadsafe(self._wake_named, partition, changed, ended)
        except RuntimeError:
            _log.debug("the loop of a waiting client is closed")

    async def close(self) -> None:
        """Look no more."""
        poll, self._poll = self._poll, None
        if poll is not None:
            poll.cancel()
            await asyncio.gather(poll, return_exceptions=True)

    def _wake_named(self, partition: int, changed: Collection[bytes], ended: Collection[bytes]) -> None:
        place = self._partitions.get(partition)
        if place is not None:
            for watch in place.named(changed, ended):
                self._table.counters.wakes += 1
                watch.event.set()

    # ------------------------------------------------------------------ the poll

    async def _keep_looking(self) -> None:
        try:
            while self._partitions:
                self._hurry.clear()
                reads = await self._round()
                # The next look is due when the reads of this one are paid for.
                least_s = reads / self._settings.watch_reads_per_s_max
                await asyncio.sleep(least_s)
                await self._rest(self._pause_s - least_s)
                self._pause_s = min(self._pause_s * _SLOWER, self._settings.poll_s_max)
        finally:
            self._poll = None

    async def _rest(self, pause_s: float) -> None:
        """Wait, but not while there is a new watch."""
        if pause_s <= 0:
            return
        try:
            async with asyncio.timeout(pause_s):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def _round(self) -> int:
        """Look at the lock rows of all partitions somebody waits on, and wake some suspects; return the reads made."""
        now = monotonic()
        chosen = [
            partition
            for partition in self._partitions
            if now - self._room.committed_at.get(partition, -_OWN_S) >= _OWN_S
        ]
        try:
            await asyncio.gather(*map(self._look, chosen))
        except TaskHubError as error:
            _log.info("waiting clients are told of nothing for a while: %s", error)
            self._pause_s = self._settings.poll_s_max
        woken = list(self._suspects)[: max(1, int(self._settings.watch_reads_per_s_max * self._pause_s))]
        for watch in woken:
            del self._suspects[watch]
            watch.event.set()
        return len(chosen) + len(woken)

    async def _look(self, partition: int) -> None:
        place = self._partitions.get(partition)
        if place is None:  # nobody waits any more
            return
        self._table.counters.looks += 1
        row = await self._table.read(partition_name(partition), LOCK, ("ended", "changed"))
        etag = "" if row is None else row.etag
        if etag == place.etag:
            return
        ended = Ring.decode(None if row is None else row.values.get("ended"))
        changed = Ring.decode(None if row is None else row.values.get("changed"))
        if place.etag is not None:
            self._apply(place, ended, changed)
        place.etag, place.ended, place.changed = etag, ended, changed
        for watch in place.all():
            if not watch.anchored:
                # What came between the making of the watch and this first look is not known.
                watch.anchored = True
                self._suspects[watch] = None

    def _apply(self, place: _Partition, ended: Ring, changed: Ring) -> None:
        new_ends, new_changes = ended.since(place.ended.count), changed.since(place.changed.count)
        for watch in place.all():
            if new_ends is None or (new_changes is None and not watch.ended):
                self._suspects[watch] = None
            elif watch.name in new_ends or (
                not watch.ended and new_changes is not None and watch.name in new_changes
            ):
                watch.event.set()
        if len(new_ends or ()) > ENDED_CROWD or new_ends is None:
            self._pause_s = max(self._settings.poll_s_min, self._pause_s / (_SLOWER * 2))


ENDED_CROWD = 128
"""So many ends between two looks, and the next one has to come sooner, before names are lost."""

"""Tells who waits for an instance's end which row it ended with.

A commit of this process hands the row over from memory. After any other ring, as of another process, the row is read,
and those of one round of the event loop by one query for each partition. Of an instance that this process has started,
and whose end has not rung since, no row is read before: it cannot have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from durabletask_azure.adapters.local.bell import Bell, Topic, Waiter, ended
from durabletask_azure.adapters.local.committer import After
from durabletask_azure.core.rows import InstanceRow, PutInstance, RowWrite
from durabletask_azure.errors import DurableTaskError
from durabletask_azure.ports import StoredInstance

__all__ = ["Ends", "Told"]

Told = Callable[[InstanceRow | None], None]
Read = Callable[[int, Sequence[str]], Mapping[str, StoredInstance]]
_LOOKS_MAX = 500
"""So many rows are read in one round."""


class _Attending:
    """One who waits for an end; what the bell resolves in place of a future."""

    __slots__ = ("_ends", "_loop", "instance_id", "partition", "told", "topic")

    def __init__(
        self, ends: Ends, loop: asyncio.AbstractEventLoop, partition: int, instance_id: str, told: Told
    ) -> None:
        self._ends = ends
        self._loop = loop
        self.partition = partition
        self.instance_id = instance_id
        self.topic: Topic = ended(instance_id)
        self.told: Told | None = told
        """Forgotten once it was called, or nobody waits any more."""

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def done(self) -> bool:
        return self.told is None

    def set_result(self, result: None) -> None:
        self._ends.rung(self)

    def tell(self, row: InstanceRow | None) -> None:
        told, self.told = self.told, None
        if told is not None:
            told(row)

    def leave(self) -> None:
        self.told = None
        self._ends.leave(self)


class Ends:
    """All who wait for ends at one open hub."""

    def __init__(self, bell: Bell, read: Read) -> None:
        """``read`` returns the rows of instances of a partition that are there and can be read."""
        self._bell = bell
        self._read = read
        self._to_look: dict[asyncio.AbstractEventLoop, list[_Attending]] = {}
        """By the loop they wait in: of every other one only what belongs to it is touched."""

    def attend(self, partition: int, instance_id: str, told: Told) -> Callable[[], None]:
        """Have ``told`` called in the running loop as the port's ``attend_end`` says."""
        one = _Attending(self, asyncio.get_running_loop(), partition, instance_id, told)
        if not self._bell.join(one.topic, _as_waiter(one)):
            self._look_later(one)
        return one.leave

    def leave(self, one: _Attending) -> None:
        """Forget one who waits no more."""
        self._bell.leave(one.topic, _as_waiter(one))

    def rung(self, one: _Attending) -> None:
        """Look what the ring was about; whoever looks listens again before."""
        self._bell.join(one.topic, _as_waiter(one))
        self._look_later(one)

    def handed_over(self, writes: Sequence[RowWrite], topics: Sequence[Topic]) -> After | None:
        """Return what gives the rows of ``writes`` to who waits for these ends now, once they are committed.

        ``topics`` are those that the writes will ring.
        """
        awaited = self._bell.awaited(topics)
        if not awaited:
            return None
        told = [
            (one, write.row)
            for write in writes
            if isinstance(write, PutInstance) and write.row.status.is_terminal
            for one in awaited.get(ended(write.row.instance_id), ())
            if isinstance(one, _Attending)
        ]

        def after(committed: bool) -> None:
            here = asyncio.get_running_loop()
            for one, row in told:
                if committed and one.get_loop() is here:  # all others hear the bell
                    one.tell(row)

        return after

    def _look_later(self, one: _Attending) -> None:
        loop = one.get_loop()
        waiting = self._to_look.get(loop)
        if waiting is None:
            self._to_look[loop] = [one]
            loop.call_soon(self._look, loop)
        else:
            waiting.append(one)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = self._to_look.pop(loop)
        if len(waiting) > _LOOKS_MAX:
            self._to_look[loop] = waiting[_LOOKS_MAX:]
            loop.call_soon(self._look, loop)
        by_partition: dict[int, list[_Attending]] = {}
        for one in waiting[:_LOOKS_MAX]:
            if not one.done():
                by_partition.setdefault(one.partition, []).append(one)
        for partition, those in by_partition.items():
            self._look_at(partition, those)

    def _look_at(self, partition: int, those: Sequence[_Attending]) -> None:
        found: Mapping[str, StoredInstance] = {}
        with contextlib.suppress(DurableTaskError):  # who asks by the other ports is told
            found = self._read(partition, [one.instance_id for one in those])
        for one in those:
            stored = found.get(one.instance_id)
            if stored is None or stored.row.instance_id != one.instance_id:
                row = None
            elif stored.row.status.is_terminal:
                row = stored.row
            else:
                continue
            self.leave(one)
            one.tell(row)


def _as_waiter(one: _Attending) -> Waiter:
    return cast(Any, one)

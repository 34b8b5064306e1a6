"""How many messages and activities wait in an embedded hub, and who has to wait at its door because of that.

What waits is counted now and then, never for each start: a count that finds room for many lets an eighth of them in
before the next count, and is believed for a second at most. So the limit may be passed a little by what is
being written while it is counted, by what other processes let in meanwhile, and by what orchestrations send, which is
never held back.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final
from weakref import WeakKeyDictionary

from durabletask_azure.adapters.local.reader import Reader
from durabletask_azure.errors import QueueFullError
from durabletask_azure.settings import Settings

__all__ = ["LocalIntake"]

_MESSAGES = "messages INDEXED BY messages_ready WHERE visible_at IS NULL"
_TASKS = "tasks INDEXED BY tasks_free WHERE locked_by IS NULL"
_BELIEVED_S: Final = 1.0
_SHARE: Final = 8
_FEW: Final = 100
"""So much room is given away at once."""
_PAUSE_S: Final = 0.05
_PAUSE_PER_LOOK: Final = 30
"""Looks at a full queue take at most a thirtieth of the time."""


class _Level:
    """What waits in one table, against its limit."""

    def __init__(self, reader: Reader, waiting: str, limit: int, what: str) -> None:
        self._reader = reader
        # The count stops where the answer is known.
        self._bounded = f"SELECT count(*) FROM (SELECT 1 FROM {waiting} LIMIT ?)"  # noqa: S608
        self._whole = f"SELECT count(*) FROM {waiting}"  # noqa: S608
        self._limit = limit
        self._what = what
        self._look_at = 0.0
        self._stale_at = 0.0
        self.room = 0
        """How many may be let in before the next look."""

    def has_room(self) -> bool:
        now = time.monotonic()
        if (now >= self._stale_at or self.room <= 0) and now >= self._look_at:
            self._look(now)
        return self.room > 0

    def _look(self, now: float) -> None:
        found = self._reader.row(self._bounded, (self._limit,))
        assert found is not None
        free = self._limit - found[0]
        self.room = max(free // _SHARE, min(free, _FEW))
        self._stale_at = now + _BELIEVED_S
        if self.room == free:
            self._look_at = now + max(_PAUSE_S, _PAUSE_PER_LOOK * (time.monotonic() - now))

    async def describe(self) -> str:
        """Return what waits and what may, in words."""
        ((count,),) = await self._reader.long_rows(self._whole, ())
        return f"{count:,} {self._what} ({self._limit:,})"


class LocalIntake:
    """The :class:`~durabletask_azure.ports.Intake` of an embedded hub."""

    def __init__(self, reader: Reader, settings: Settings) -> None:
        messages = _Level(
            reader,
            _MESSAGES,
            settings.messages_waiting_max,
            "messages to orchestrations, messages_waiting_max",
        )
        tasks = _Level(reader, _TASKS, settings.activities_waiting_max, "activities, activities_waiting_max")
        self._wait_s = settings.queue_full_wait_s
        self._starts = _Door(messages, tasks)
        self._events = _Door(messages)

    def has_room_for_a_start(self) -> bool:
        """Take room for a start, if there is any and nobody waits for it."""
        return not self._starts.waiting and self._starts.enters()

    async def admit_start(self) -> None:
        await self._admit(self._starts, "an orchestration was not started")

    async def admit_event(self) -> None:
        await self._admit(self._events, "an event was not sent")

    async def _admit(self, door: _Door, refused: str) -> None:
        if not door.waiting and door.enters():
            return
        door.waiting += 1
        try:
            async with asyncio.timeout(self._wait_s), door.line():
                while not door.enters():  # noqa: ASYNC110 - another process may make room
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError as error:
            waiting = " and ".join([await level.describe() for level in door.levels])
            raise QueueFullError(
                f"{refused}: the hub is full, and there was no room within queue_full_wait_s ({self._wait_s:g} s)."
                f" There wait, with the limit in the settings: {waiting}"
            ) from error
        finally:
            door.waiting -= 1


class _Door:
    """What must have room for one kind of call, and the line before it.

    Several event loops may be at a door, each with a line of its own. They share its numbers without a lock: one
    that is off by a few for a second does no harm.
    """

    def __init__(self, *levels: _Level) -> None:
        self.levels = levels
        self.waiting = 0
        """How many stand in a line."""
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    def enters(self) -> bool:
        """Take room for one, if there is."""
        for level in self.levels:
            if not level.has_room():
                return False
        for level in self.levels:
            level.room -= 1
        return True

    def line(self) -> asyncio.Lock:
        """Return what lets in one after the other."""
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            line = self._lines[loop] = asyncio.Lock()
        return line

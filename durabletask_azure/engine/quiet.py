"""Quiet around a suspicious turn: while one may end this process, no partition of the worker runs another (F30).

An attempt at a suspicious turn is noted before it is made; if the process ends, it is the turn's fault. So nothing else
may be what ends it: one partition at a time makes such an attempt, from the note to the commit of its turn, and the
turns of the other partitions wait for that, at most as long as they are told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from durabletask_azure.engine.retrying import within
from durabletask_azure.ports import Clock

__all__ = ["Quiet"]


class Quiet:
    """Who of a worker's owners is making an attempt now. All calls come from one event loop."""

    def __init__(self, clock: Clock, wait_s_max: float) -> None:
        self._clock = clock
        self._wait_s_max = wait_s_max
        self.holder: object | None = None
        """The owner that makes an attempt now."""
        self._over = asyncio.Event()

    def is_held_by(self, owner: object) -> bool:
        """Return whether it is this owner that makes an attempt."""
        return self.holder is owner

    async def begin(self, owner: object) -> None:
        """Wait until no other owner makes an attempt, and begin one."""
        while self.holder is not None and self.holder is not owner:
            await self._over.wait()
        self.holder = owner
        self._over.clear()

    async def around(
        self,
        owner: object,
        batch: Callable[[], Awaitable[None]],
        committed: Callable[[], Awaitable[None]],
    ) -> None:
        """Run a batch of this owner's; if it made an attempt, that ends when all is ``committed``."""
        try:
            await batch()
            if self.is_held_by(owner):
                await committed()
        finally:
            self.end(owner)

    def end(self, owner: object) -> None:
        """End this owner's attempt, if it makes one."""
        if self.holder is owner:
            self.holder = None
            self._over.set()

    async def wait(self, owner: object) -> None:
        """Wait while another owner makes an attempt."""
        if self.holder is not None and self.holder is not owner:
            await within(self._clock, self._wait_s_max, self._over)

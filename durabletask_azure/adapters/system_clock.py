"""This machine's clock."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

__all__ = ["SystemClock"]


class SystemClock:
    """The :class:`~durabletask_azure.ports.clock.Clock` of the machine the process runs on."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    # Asked several times a turn: without a frame of its own.
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)

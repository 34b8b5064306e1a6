"""This machine's clock, and time as the embedded hub stores it: whole microseconds since 1970, UTC."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

__all__ = ["SystemClock", "from_us", "to_us", "wall_us"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class SystemClock:
    """The :class:`~durabletask_azure.ports.clock.Clock` of the machine the process runs on."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


def wall_us() -> int:
    """Return the wall clock in microseconds since 1970."""
    return time.time_ns() // 1_000


def to_us(moment: datetime) -> int:
    """Return an aware time in microseconds since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """Return the time, aware and in UTC, of a number of microseconds since 1970, exactly."""
    return _EPOCH + timedelta(microseconds=us)

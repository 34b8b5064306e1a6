"""The embedded hub's clock; time as the hub stores it: whole microseconds since 1970, UTC."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

__all__ = ["HubClock", "from_us", "to_us", "wall_us"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def wall_us() -> int:
    """Return the wall clock in microseconds since 1970."""
    return time.time_ns() // 1_000


class HubClock:
    """The time of one open hub: the wall clock's, but it never goes back, nor stands still.

    When the wall clock is set back, hub time goes on from where it was, ahead of the wall clock until that is set on.
    """

    def __init__(self, wall: Callable[[], int] = wall_us) -> None:
        """Follow ``wall``, which returns microseconds since 1970."""
        self._wall = wall
        self._guard = threading.Lock()
        self._offset_us = -(2**62)

    def now_us(self, reached_us: int = 0) -> int:
        """Return the hub's time in microseconds, which is known to have come to ``reached_us`` at least."""
        with self._guard:
            # The wall clock first: a thread that waits for its processor in between then finds hub time late, which
            # the next look mends. The other way round it would be ahead by so much for good, and timers early.
            reached_us = max(self._wall(), reached_us)
            steady_us = time.monotonic_ns() // 1_000
            # Only ever raised: so neither a step of the wall clock nor another thread's look takes time back.
            self._offset_us = max(self._offset_us, reached_us - steady_us)
            return steady_us + self._offset_us

    def ahead_us(self) -> int:
        """Return how far the hub's time is ahead of the wall clock, in microseconds."""
        return max(0, self.now_us() - self._wall())


def to_us(moment: datetime) -> int:
    """Return an aware time in microseconds since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """Return the time, aware and in UTC, of a number of microseconds since 1970, exactly."""
    return _EPOCH + timedelta(microseconds=us)

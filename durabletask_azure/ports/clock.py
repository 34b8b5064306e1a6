"""The only source of time and of waiting in the engine, so that all of it runs in virtual time under the simulator."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

__all__ = ["Clock"]


class Clock(Protocol):
    """A worker's own clock. It may be wrong or jump: safety and timers never rest on ``now`` (DESIGN 4)."""

    def now(self) -> datetime:
        """Return this machine's idea of the time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go backwards, from an arbitrary start."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Wait ``delay_s`` seconds."""
        ...

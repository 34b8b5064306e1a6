"""What holds clients back while a hub has too much waiting, where no broker's queue size does."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Intake"]


class Intake(Protocol):
    """Offered by a hub whose queues have no size of their own; clients ask before they write anything.

    What orchestrations and activities send never asks: a worker that is refused could not work off what waits. Nor do
    orders that lessen the load or steer it (terminate, suspend, resume, purge, rewind).
    """

    async def admit_start(self) -> None:
        """Return when one more instance may be started; first come, first served.

        Raises:
            QueueFullError: there was no room within ``Settings.queue_full_wait_s``; names what waits, and the limit.
        """
        ...

    async def admit_event(self) -> None:
        """Return when one more event may be sent; errors as :meth:`admit_start`."""
        ...

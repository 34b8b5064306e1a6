"""How a client's call is tried again: a bounded time, with growing pauses, and only when repeating it is safe.

Every port call may be repeated (``ports``); what a lost reply means is left to the caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from durabletask_azure.errors import HubUnavailableError, QueueFullError, ThrottledError
from durabletask_azure.ports import Clock

__all__ = ["retried"]

T = TypeVar("T")

_PAUSE_S_MIN = 0.05
_PAUSE_S_MAX = 2.0


async def retried(
    call: Callable[[], Awaitable[T]], clock: Clock, give_up_s: float, *, full_s: float | None = None
) -> T:
    """Return what ``call()`` returns, trying again while the hub is throttled, unreachable or full.

    Raises:
        ThrottledError, HubUnavailableError, QueueFullError: the next try would begin later than ``give_up_s`` seconds
            after the first, for a full queue ``full_s``. Everything else the call raises, at once.
    """
    begun = clock.monotonic()
    deadline = begun + give_up_s
    pause_s = _PAUSE_S_MIN
    while True:
        wait_s = pause_s
        try:
            return await call()
        except ThrottledError as error:
            if error.retry_after is not None:
                wait_s = max(pause_s, error.retry_after.total_seconds())
            if clock.monotonic() + wait_s > deadline:
                raise
        except QueueFullError:
            if clock.monotonic() + wait_s > begun + (give_up_s if full_s is None else full_s):
                raise
        except HubUnavailableError:
            if clock.monotonic() + wait_s > deadline:
                raise
        await clock.sleep(wait_s)
        pause_s = min(pause_s * 2, _PAUSE_S_MAX)

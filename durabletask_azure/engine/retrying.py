"""How the engine waits out a hub that is throttled, unreachable or full: for as long as it takes, with growing pauses.

Every port call may be repeated safely (``ports``). Whoever loses its reason to go on meanwhile (the partition is lost,
the worker stops) stops the attempts through ``keep_going``.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from durabletask_azure.errors import HubUnavailableError, PartitionLostError, QueueFullError, ThrottledError
from durabletask_azure.ports import Clock
from durabletask_azure.settings import Settings

__all__ = ["patiently"]

T = TypeVar("T")
_PAUSE_S_MIN = 0.05
_log = logging.getLogger("durabletask_azure.engine")


async def patiently(
    clock: Clock,
    settings: Settings,
    what: str,
    call: Callable[[], Awaitable[T]],
    *,
    keep_going: Callable[[], bool] | None = None,
) -> T:
    """Return what ``call()`` returns, trying again until it does.

    Raises:
        PartitionLostError: ``keep_going()`` became false. Everything the call raises that waiting does not cure.
    """
    pause_s = _PAUSE_S_MIN
    while True:
        try:
            return await call()
        except (HubUnavailableError, ThrottledError, QueueFullError) as error:
            if keep_going is not None and not keep_going():
                raise PartitionLostError(f"gave up {what}") from error
            wait_s = pause_s
            if isinstance(error, ThrottledError) and error.retry_after is not None:
                wait_s = max(pause_s, error.retry_after.total_seconds())
            _log.warning("%s: %s; trying again in %.2f s", what, error, wait_s)
        await clock.sleep(wait_s)
        pause_s = min(pause_s * 2, settings.send_retry_s_max)

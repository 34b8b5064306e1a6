"""How the engine waits out a hub that is throttled, unreachable or full: for as long as it takes, with growing pauses.

Every port call may be repeated safely (``ports``). Whoever loses its reason to go on meanwhile (the partition is lost,
the worker stops) stops the attempts through ``keep_going``. ``kept_alive`` restarts a task that died of something
unexpected; ``within`` waits for a signal for a limited time. All pauses go through the hub's clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from durabletask_azure.errors import (
    HistoryMissingError,
    HubUnavailableError,
    PartitionLostError,
    QueueFullError,
    ThrottledError,
)
from durabletask_azure.ports import Clock
from durabletask_azure.settings import Settings

__all__ = ["RETRIED", "kept_alive", "patiently", "within"]

T = TypeVar("T")
RETRIED = (HubUnavailableError, ThrottledError, QueueFullError)
"""What another try may cure."""

_PAUSE_S_MIN = 0.05
_RESTART_S = 1.0
_log = logging.getLogger("durabletask_azure.engine")


async def patiently(
    clock: Clock,
    settings: Settings,
    what: str,
    call: Callable[[], Awaitable[T]],
    *,
    keep_going: Callable[[], bool] | None = None,
    jitter: Callable[[], float] | None = None,
) -> T:
    """Return what ``call()`` returns, trying again until it does.

    ``jitter`` returns numbers from 0 to 1 and shortens each pause by up to half; without it pauses are exact.

    Raises:
        PartitionLostError: ``keep_going()`` became false. Everything the call raises that waiting does not cure.
    """
    pause_s = _PAUSE_S_MIN
    while True:
        try:
            return await call()
        except HistoryMissingError:
            raise  # waiting does not bring it back
        except RETRIED as error:
            if keep_going is not None and not keep_going():
                raise PartitionLostError(f"gave up {what}") from error
            wait_s = pause_s if jitter is None else pause_s * (1.0 - jitter() / 2)
            if isinstance(error, ThrottledError) and error.retry_after is not None:
                wait_s = max(wait_s, error.retry_after.total_seconds())
            _log.warning("%s: %s; trying again in %.2f s", what, error, wait_s)
        await clock.sleep(wait_s)
        pause_s = min(pause_s * 2, settings.send_retry_s_max)


async def kept_alive(
    clock: Clock, what: str, call: Callable[[], Awaitable[None]], keep_going: Callable[[], bool]
) -> None:
    """Run ``call()`` to its end; if it dies of an unexpected error, log that and run it again after a pause (B122)."""
    while True:
        try:
            await call()
            return
        except Exception:
            if not keep_going():
                _log.info("%s ended with an error while stopping", what, exc_info=True)
                return
            _log.exception("%s failed; it is started again in %.0f s", what, _RESTART_S)
        await clock.sleep(_RESTART_S)


async def within(clock: Clock, delay_s: float, signal: asyncio.Event) -> bool:
    """Wait until ``signal`` is set, at most ``delay_s`` seconds of ``clock``; return whether it is set."""
    if signal.is_set() or delay_s <= 0:
        return signal.is_set()
    waiting = asyncio.create_task(signal.wait())
    alarm = asyncio.ensure_future(clock.sleep(delay_s))
    try:
        await asyncio.wait((waiting, alarm), return_when=asyncio.FIRST_COMPLETED)
        if alarm.done():
            alarm.result()
    finally:
        waiting.cancel()
        alarm.cancel()
    return signal.is_set()

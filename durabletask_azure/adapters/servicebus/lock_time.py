"""How long a lock lasts, with a clock of this machine that may be wrong (F22).

The SDK compares the time a lock ends, which is the broker's, with this machine's: with a clock that is ahead by more
than a lock, it would call every lock expired and never complete anything. Whether a lock is lost is for the broker to
say, so the SDK is told that none ends (``unclocked``). It offers no way to say so; the two attributes are its caches of
that time, and a test with a broker whose clock is off sees to it that they still are.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusSession

__all__ = ["lock_left_s", "unclocked"]

LOCK_S_MIN: Final = 5.0
"""The shortest lock of Service Bus."""
_NEVER: Final = datetime(9999, 12, 31, tzinfo=UTC)


def lock_left_s(until: datetime | None, asked_s: float, *, least_s: float = LOCK_S_MIN) -> float:
    """Return for how many seconds a lock will last that ends at ``until`` by the broker's clock.

    ``asked_s`` is what the queue was created with. Less counts only if it makes sense: a time that is past already says
    that this machine's clock is wrong.
    """
    left_s = asked_s if until is None else (until - datetime.now(UTC)).total_seconds()
    return min(max(left_s, least_s), asked_s) if left_s > 0 else asked_s


def unclocked(renewable: ServiceBusReceivedMessage | ServiceBusSession) -> None:
    """Keep the SDK from judging by this machine's clock whether a lock has expired; again after each renewal."""
    name = "_expiry" if isinstance(renewable, ServiceBusReceivedMessage) else "_locked_until_utc"
    setattr(renewable, name, _NEVER)

"""What the queues of a hub have to be like, and how those that are there differ from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from azure.servicebus.management import QueueProperties

from durabletask_azure.ports import HubFinding
from durabletask_azure.targets import HubNames, QueueOptions

__all__ = ["QueuePlan", "compared", "plans_of"]

_PARTITIONED: Final = 16
"""A partitioned queue reports its size times its number of parts."""
_FOREVER_S: Final = 10_000_000.0 * 86_400
_DURATION: Final = re.compile(
    r"P(?:(?P<days>\d+)D)?(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>[\d.]+)S)?)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePlan:
    """What one queue is created with. Times in seconds, ``None``: none, or as long as the service allows."""

    name: str
    requires_session: bool
    lock_s: float
    delivery_count_max: int
    size_mb: int
    duplicate_window_s: float | None
    time_to_live_s: float | None


def plans_of(names: HubNames, options: QueueOptions) -> list[QueuePlan]:
    """Return the plans of all queues of a hub: the orchestrations' first, then the activities' of each group."""
    queues = [(names.orchestrations, True), (names.activities(), False)]
    queues += [(names.activities(group), False) for group in sorted(options.activity_groups)]
    return [
        QueuePlan(
            name=name,
            requires_session=requires_session,
            lock_s=options.lock_s,
            delivery_count_max=options.delivery_count_max,
            size_mb=options.max_size_mb,
            duplicate_window_s=options.duplicate_window_s,
            time_to_live_s=options.time_to_live_s,
        )
        for name, requires_session in queues
    ]


def compared(plan: QueuePlan, found: QueueProperties) -> list[HubFinding]:
    """Return a finding for each property that matters."""
    part = f"queue {plan.name}"
    again = f"delete {part} while it is empty, and have it created again by repair()"
    lock_s = _seconds(found.lock_duration)
    window_s = _seconds(found.duplicate_detection_history_time_window)
    duplicates = window_s if found.requires_duplicate_detection else None
    findings = [
        _finding(part, "requires_session", plan.requires_session, found.requires_session, again),
        _finding(part, "lock_duration (s)", plan.lock_s, lock_s, _either("lock_duration_s", lock_s)),
        _finding(
            part,
            "max_delivery_count",
            plan.delivery_count_max,
            found.max_delivery_count,
            _either("max_delivery_count", found.max_delivery_count),
        ),
        _size(part, plan.size_mb, found.max_size_in_megabytes),
        _finding(
            part,
            "duplicate window (s)",
            plan.duplicate_window_s,
            duplicates,
            f"say duplicate_window_s={_plain(duplicates)}, or {again}",
        ),
        _finding(
            part,
            "dead_lettering_on_message_expiration",
            True,
            found.dead_lettering_on_message_expiration,
            "turn it on in the Azure portal: expired messages would be lost",
        ),
    ]
    if plan.time_to_live_s is not None:
        lives_s = _seconds(found.default_message_time_to_live)
        findings.append(
            _finding(
                part, "time to live (s)", plan.time_to_live_s, lives_s, _either("time_to_live_s", lives_s)
            )
        )
    return findings


def _finding(part: str, field: str, wanted: object, actual: object, remedy: str) -> HubFinding:
    return HubFinding(
        part=part,
        field=field,
        wanted=_plain(wanted),
        actual=_plain(actual),
        is_sound=wanted == actual,
        remedy=remedy,
    )


def _size(part: str, wanted: int, actual: int | None) -> HubFinding:
    return HubFinding(
        part=part,
        field="max_size_in_megabytes",
        wanted=str(wanted),
        actual=str(actual),
        is_sound=actual in (wanted, wanted * _PARTITIONED),
        remedy=_either("max_queue_size_in_megabytes", actual),
    )


def _either(option: str, actual: object) -> str:
    return f"say {option}={_plain(actual)}, or change the queue in the Azure portal"


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _seconds(duration: timedelta | str | None) -> float | None:
    """Return the seconds of what the SDK reads as a time span or leaves as ISO 8601."""
    if duration is None or isinstance(duration, timedelta):
        return None if duration is None else duration.total_seconds()
    match = _DURATION.fullmatch(duration)
    if match is None:
        return None
    days, hours, minutes, seconds = (
        float(match[name] or 0) for name in ("days", "hours", "minutes", "seconds")
    )
    total = days * 86_400 + hours * 3600 + minutes * 60 + seconds
    return None if total > _FOREVER_S else total

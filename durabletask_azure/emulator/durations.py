"""Durations in ISO 8601, as Config.json and the administration API write them."""

from __future__ import annotations

import re
from typing import Final

FOREVER: Final = "P10675199DT2H48M5.4775807S"
# Anything from this on is no limit: .NET's longest time span is a little over it.
FOREVER_FROM_S: Final = 10_675_199.0 * 86_400.0
_PATTERN: Final = re.compile(
    r"P(?:(\d+(?:\.\d+)?)D)?(?:T(?:(\d+(?:\.\d+)?)H)?(?:(\d+(?:\.\d+)?)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)
_SECONDS: Final = (86_400.0, 3600.0, 60.0, 1.0)


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `PT1M` or `P14DT1H`; infinity for .NET's longest.

    Raises:
        ValueError: the text is none.
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None or text.strip() in ("P", "") or text.strip().endswith("T"):
        raise ValueError(f"{text!r} is no duration; write for example PT30S, PT1M or P14D")
    seconds = sum(
        float(part) * unit for part, unit in zip(match.groups(), _SECONDS, strict=True) if part is not None
    )
    return float("inf") if seconds >= FOREVER_FROM_S else seconds


def format_duration(seconds: float) -> str:
    """Return a duration in ISO 8601."""
    if seconds >= FOREVER_FROM_S:
        return FOREVER
    whole = int(seconds)
    fraction = seconds - whole
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    text = f"P{days}D" if days else "P"
    last = f"{rest + round(fraction, 7):g}S" if fraction else f"{rest}S" if rest else ""
    clock = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "") + last
    if clock:
        text += f"T{clock}"
    return text if text != "P" else "PT0S"

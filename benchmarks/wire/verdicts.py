"""What the hub has to reach over the wire, and whether it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.tables import figure
from benchmarks.targets import Verdict

__all__ = ["entities", "judge_recovery", "judge_wire", "messages"]

_RATE_MIN = 0.6
_ENTITIES_MAX = 1.9
_TRANSACTIONS_MAX = 0.3
_MESSAGES_MAX = 2.2
_MARGIN_S = 2.0

Counts = Mapping[str, Any]
"""What a workload was counted to do (:class:`benchmarks.wire.hub.Watch`)."""


def entities(counts: Counts) -> int:
    """Return all entities written: in transactions, lock rows among them, and the client's single inserts."""
    storage = counts["storage"]
    return storage.get("entities in transactions", 0) + storage.get("inserts", 0)


def messages(counts: Counts) -> int:
    """Return all messages sent to both queues."""
    return counts["to partitions"].get("messages", 0) + counts["tasks"].get("messages", 0)


def judge_wire(rate: float, floor_rate: float, packed: Counts, unpacked: Counts) -> list[Verdict]:
    """Return the verdicts on W1: medians of the rates in orchestrations/s, and the largest counts of its runs."""
    ratio = rate / floor_rate
    per_step = entities(packed) / packed["steps"]
    transactions = packed["storage"].get("transactions", 0) / packed["steps"]
    with_packing, without = messages(packed) / packed["steps"], messages(unpacked) / unpacked["steps"]
    return [
        Verdict(
            passed=ratio >= _RATE_MIN,
            text=f"W1: {ratio:.2f} of the floor's rate, at least {_RATE_MIN:g}:"
            f" {figure(rate)} and {figure(floor_rate)} orchestrations/s",
        ),
        Verdict(
            passed=per_step <= _ENTITIES_MAX,
            text=f"W1: {per_step:.2f} entities written per step, at most {_ENTITIES_MAX:g}",
        ),
        Verdict(
            passed=transactions <= _TRANSACTIONS_MAX,
            text=f"W1: {transactions:.3f} transactions per step, at most {_TRANSACTIONS_MAX:g}",
        ),
        Verdict(
            passed=without <= _MESSAGES_MAX,
            text=f"W1: {without:.2f} messages per step with packing off, at most {_MESSAGES_MAX:g}",
        ),
        Verdict(
            passed=with_packing < without,
            text=f"W1: {with_packing:.2f} messages per step with packing on, less than with packing off",
        ),
    ]


def judge_recovery(how: str, lock_s: float, standstills_s: Sequence[float]) -> Verdict:
    """Return whether work went on in time after a worker was killed (``how`` is SIGKILL) or stopped (SIGTERM)."""
    limit_s = _MARGIN_S + (lock_s if how == "SIGKILL" else 0.0)
    allowed = f"the lock duration, {lock_s:g} s, and 2 s" if how == "SIGKILL" else "2 s"
    return Verdict(
        passed=standstills_s[0] <= limit_s,
        text=f"all work went on {standstills_s[0]:.2f} s after {how} of a worker, at most {allowed}",
    )

"""What single operations of the bare SDKs cost, beside what FACTS.md of the design says they cost."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.processes import CpuClock
from benchmarks.tables import figure, table
from benchmarks.wire.servers import Servers

if TYPE_CHECKING:
    from benchmarks.wire.bare_links import BareLinks
    from benchmarks.wire.bare_rows import BareRows

__all__ = ["cost_table", "single_costs"]

_DIFFERENCE_MAX = 0.3
_BUSY = (
    "the same work takes from half to twice the processor time on the same machine, by what else shares its two"
    " processors and their caches, most of all where it waits for each answer; docs/performance.md has both ends"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What an operation was found to cost when the design was made: microseconds of the client's processor time."""

    least: float
    most: float
    why: str = _BUSY
    """Why it differs, when it does by more than 30 %."""


_KNOWN = {
    "insert a row": _Known(least=1300, most=1900),
    "read a row": _Known(least=1300, most=1300),
    "transaction": _Known(least=3000, most=3000),
    "its entities, each": _Known(least=350, most=350),
    "send, in batches of 100": _Known(least=90, most=90),
    "receive and complete": _Known(least=120, most=220),
}


async def single_costs(
    rows: BareRows, links: BareLinks, servers: Servers, rounds: int
) -> dict[str, dict[str, float]]:
    """Do each kind of operation by itself; return microseconds each: wall time, and processor time by process.

    All is done ``rounds`` times, and the least counts: whatever disturbs only adds.
    """
    messages = 500
    kinds: dict[str, tuple[int, int, Callable[[], Awaitable[Any]]]] = {
        "insert a row": (100, 1, lambda: rows.insert(0)),
        "read a row": (100, 1, lambda: rows.read(0)),
        "transaction of 2": (30, 1, lambda: rows.transact(0, 2)),
        "transaction of 100": (3, 1, lambda: rows.transact(0, 100)),
        "send, in batches of 100": (messages // 100, 100, lambda: links.send("tasks", 100)),
        "receive and complete": (1, messages, lambda: links.receive_tasks(messages)),
    }
    done: list[dict[str, dict[str, float]]] = []
    for _ in range(rounds):
        done.append(
            {name: await _cost(servers, times, each, work) for name, (times, each, work) in kinds.items()}
        )
    found = {name: min((one[name] for one in done), key=lambda cost: cost["client"]) for name in kinds}
    small, large = found.pop("transaction of 2"), found.pop("transaction of 100")
    each = {name: (large[name] - small[name]) / 98 for name in small}
    found["its entities, each"] = each
    found["transaction"] = {name: small[name] - 2 * each[name] for name in small}
    return {name: found[name] for name in _KNOWN}


async def _cost(
    servers: Servers, times: int, each: int, work: Callable[[], Awaitable[Any]]
) -> dict[str, float]:
    clocks = {name: CpuClock({name: pid}) for name, pid in servers.processes().items()}
    cpu, begun = time.process_time(), time.perf_counter()
    for _ in range(times):
        await work()
    scale = 1e6 / (times * each)
    return {
        "wall": (time.perf_counter() - begun) * scale,
        "client": (time.process_time() - cpu) * scale,
        **{name: clock.seconds() * scale for name, clock in clocks.items()},
    }


def cost_table(costs: Sequence[dict[str, dict[str, float]]]) -> str:
    """Return the costs of several runs (their least: what disturbs only adds) beside the known ones."""
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for name, known in _KNOWN.items():
        least = {key: min(cost[name][key] for cost in costs) for key in costs[0][name]}
        nearest = min(max(least["client"], known.least), known.most)
        difference = least["client"] / nearest - 1
        span = figure(known.least) if known.least == known.most else f"{known.least:g} to {known.most:g}"
        rows.append(
            (
                name,
                figure(least["client"]),
                span,
                f"{difference:+.0%}",
                *(figure(least[key]) for key in ("emulator", "Azurite", "wall")),
            )
        )
        if abs(difference) > _DIFFERENCE_MAX:
            notes.append(f"{name}: {known.why}")
    head = (
        "µs of processor time each",
        "client",
        "FACTS.md",
        "differs",
        "emulator",
        "Azurite",
        "µs of wall time",
    )
    return "\n".join((table(head, rows), *notes))

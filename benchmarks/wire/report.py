"""The tables of ``python -m benchmarks wire``."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.tables import figure, table
from benchmarks.wire.verdicts import entities, messages

__all__ = ["count_tables", "figure_table", "machine", "side_by_side", "transaction_line"]

Counts = Mapping[str, Any]


def machine() -> str:
    """Return when and where this is."""
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return f"{now}, {os.cpu_count()} processors, {platform.platform()}, Python {platform.python_version()}"


def figure_table(runs: Sequence[Mapping[str, float]], floor_rate: float, sizes: Mapping[str, Any]) -> str:
    """Return what the workloads took."""
    titles = {
        "W1": "W1: orchestrations/s",
        "W1 cpu": "W1, processor time of all processes: ms per orchestration",
        "W2": f"W2, {sizes['w2_width']:,} activities at once: s",
        "W3 p50": "W3, median: ms",
        "W3 p95": "W3, 95th percentile: ms",
        **{f"W4 {steps}": f"W4, {steps} activities in a row: s" for steps in sizes["w4_steps"]},
    }
    rows: list[tuple[str, ...]] = []
    for key, title in titles.items():
        values = [run[key] for run in runs]
        rows.append(
            (title, *(figure(value) for value in (statistics.median(values), min(values), max(values))))
        )
        if key == "W1":
            rows.append(("W1, the bare SDKs: orchestrations/s", figure(floor_rate), "", ""))
    return table((f"{len(runs)} runs, servers in processes of their own", "median", "min", "max"), rows)


def _storage(name: str) -> Callable[[Counts], float]:
    return lambda counts: counts["storage"].get(name, 0)


def _queues(name: str) -> Callable[[Counts], float]:
    return lambda counts: counts["to partitions"].get(name, 0) + counts["tasks"].get(name, 0)


def _requests(counts: Counts) -> float:
    return sum(sum(counts[queue].get("requests", {}).values()) for queue in ("to partitions", "tasks"))


def _operations(counts: Counts) -> float:
    """Return what Service Bus bills: each message sent, each received, each settled, and each request."""
    return (
        messages(counts) + _queues("deliveries")(counts) + _queues("settlements")(counts) + _requests(counts)
    )


def _blobs(counts: Counts) -> float:
    return sum(counts["storage"].get(name, 0) for name in ("blob puts", "blob gets", "blob others"))


_PER_STEP: Mapping[str, Callable[[Counts], float]] = {
    "Service Bus messages": messages,
    "  to partitions (results, wake-ups)": lambda counts: counts["to partitions"].get("messages", 0),
    "  tasks": lambda counts: counts["tasks"].get("messages", 0),
    "  batches they were sent in": _queues("sends"),
    "Service Bus operations": _operations,
    "  received": _queues("deliveries"),
    "  settled": _queues("settlements"),
    "  requests (renewals, scheduled)": _requests,
    "Table transactions": _storage("transactions"),
    "entities written, all": entities,
    "  lock rows": _storage("lock rows"),
    "  single inserts and announcements": _storage("inserts"),
    "Table reads of one row": _storage("point reads"),
    "Table queries (pages)": _storage("queries"),
    "Blob operations": _blobs,
    "storage requests refused": _storage("refused"),
}


def count_tables(workloads: Mapping[str, Counts], unpacked: Counts) -> str:
    """Return what each workload did, per activity step, everything counted."""
    columns = {"W1": workloads["W1"], "W1, packing off": unpacked}
    columns |= {name: counts for name, counts in workloads.items() if name != "W1"}
    rows = [
        (name, *(figure(count(counts) / counts["steps"]) for counts in columns.values()))
        for name, count in _PER_STEP.items()
    ]
    return table(("per activity step", *columns), rows)


_SIDE_BY_SIDE: Mapping[str, Callable[[Counts], float]] = {
    "single inserts": _storage("inserts"),
    "reads of one row": _storage("point reads"),
    "queries": _storage("queries"),
    "transactions": _storage("transactions"),
    "entities in them": _storage("entities in transactions"),
    "KiB in them": lambda counts: counts["storage"].get("transaction bytes", 0) / 1024,
    "messages to partitions": lambda counts: counts["to partitions"]["messages"],
    "  batches to partitions": lambda counts: counts["to partitions"]["sends"],
    "  KiB to partitions": lambda counts: counts["to partitions"]["bytes"] / 1024,
    "tasks": lambda counts: counts["tasks"]["messages"],
    "  batches of tasks": lambda counts: counts["tasks"]["sends"],
    "  KiB of tasks": lambda counts: counts["tasks"]["bytes"] / 1024,
    "received": _queues("deliveries"),
    "completed": _queues("settlements"),
    "s": lambda counts: counts["seconds"],
    "processor time, client: s": lambda counts: counts["cpu"]["client and worker"],
    "processor time, emulator: s": lambda counts: counts["cpu"]["emulator"],
    "processor time, Azurite: s": lambda counts: counts["cpu"]["Azurite"],
}


def side_by_side(hubs: Sequence[Mapping[str, Any]], floors: Sequence[Counts]) -> str:
    """Return what hub and bare SDKs did in W1, in the run of median speed, and what bounds them."""
    order = sorted(range(len(hubs)), key=lambda index: hubs[index]["counts"]["W1"]["seconds"])
    middle = order[len(order) // 2]
    hub, floor = hubs[middle]["counts"]["W1"], floors[middle]
    rows = [(name, figure(count(hub)), figure(count(floor))) for name, count in _SIDE_BY_SIDE.items()]
    lines = [table(("W1, the run of median speed", "hub", "bare SDKs"), rows)]
    for name, counts in (("hub", hub), ("bare SDKs", floor)):
        share = counts["cpu"]["client and worker"] / counts["seconds"]
        lines.append(
            f"{name}: the client's process, one thread at a time under Python's lock, took {share:.0%} of a core;"
            f" all processes {sum(counts['cpu'].values()) / counts['seconds']:.0%} of {os.cpu_count()} cores"
        )
    return "\n".join(lines)


def transaction_line(costs: Sequence[Mapping[str, float]]) -> str:
    """Return what a transaction takes the bare SDK and the hub's own store (the least of several runs)."""
    least = {name: figure(min(cost[name] for cost in costs) / 1000) for name in costs[0]}
    return (
        f"A transaction of 14 rows takes {least['bare SDK']} ms of the client's processor time with the bare SDK and"
        f" {least['own store']} ms in the hub, which writes and reads its text itself instead of with the standard"
        " library's e-mail package; so the hub may be faster than the floor."
    )

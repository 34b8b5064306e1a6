"""``python -m benchmarks wire``: the hub over the wire beside the bare SDKs, in turns, with new servers each time."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.fresh import in_fresh_process
from benchmarks.targets import SMALL_SAYS
from benchmarks.wire.costs import cost_table
from benchmarks.wire.plan import plan_of
from benchmarks.wire.report import count_tables, figure_table, machine, side_by_side, transaction_line
from benchmarks.wire.servers import running_servers
from benchmarks.wire.verdicts import entities, judge_recovery, judge_wire, messages
from benchmarks.workloads import FULL, SMALL

__all__ = ["COMMAND", "HELP", "run"]

COMMAND = "wire"
HELP = "W1 to W4 on Azurite and the Service Bus emulator, counted, beside the bare SDKs; recovery"

_REPETITIONS = 3
_LOCK_S = 10.0
_UNPACKED = {"pack_events_max": 1, "pack_delay_s": 0.0}
_W1_ALONE = {"w2_width": 1, "w3_orchestrations": 2, "w4_steps": [1]}


def run(*, small: bool) -> None:
    """Measure everything and print it."""
    sizes = asdict(SMALL if small else FULL)
    hubs: list[dict[str, Any]] = []
    floors: list[dict[str, Any]] = []
    for repetition in range(1 if small else _REPETITIONS):
        hubs.append(_on_new_servers("wire.hub", sizes=sizes, settings={}))
        _say(f"run {repetition + 1}: the hub: {hubs[-1]['figures']['W1']:.1f} orchestrations/s in W1")
        floors.append(
            _on_new_servers("wire.floor", plan=_plan(hubs[-1], sizes), cost_rounds=1 if small else 3)
        )
        _say(f"run {repetition + 1}: the floor: {sizes['w1_orchestrations'] / floors[-1]['seconds']:.1f}")
    unpacked = _on_new_servers("wire.hub", sizes=sizes | _W1_ALONE, settings=_UNPACKED)
    rate = statistics.median(hub["figures"]["W1"] for hub in hubs)
    floor_rate = statistics.median(sizes["w1_orchestrations"] / floor["seconds"] for floor in floors)
    print(machine() + "\n")
    print(figure_table([hub["figures"] for hub in hubs], floor_rate, sizes) + "\n")
    print(count_tables(hubs[-1]["counts"], unpacked["counts"]["W1"]) + "\n")
    print(side_by_side(hubs, floors) + "\n")
    print(cost_table([floor["costs"] for floor in floors]) + "\n")
    print(transaction_line([floor["transaction"] for floor in floors]) + "\n")
    standstills = {
        how: in_fresh_process(
            "wire.recovery", how=how, lock_s=5.0 if small else _LOCK_S, orchestrations=8 if small else 40
        )
        for how in ("SIGKILL", "SIGTERM")
    }
    for how, found in standstills.items():
        print(f"after {how}: work stood still for {_span(found)}")
    if small:
        print("\n" + SMALL_SAYS)
        return
    packed = _largest([hub["counts"]["W1"] for hub in hubs])
    verdicts = judge_wire(rate, floor_rate, packed, unpacked["counts"]["W1"])
    verdicts += [judge_recovery(how, _LOCK_S, found) for how, found in standstills.items()]
    print("\nTargets\n" + "\n".join(map(str, verdicts)))


def _on_new_servers(module: str, **arguments: Any) -> Any:
    with running_servers() as servers:
        return in_fresh_process(module, servers=asdict(servers), **arguments)


def _plan(hub: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    counted = hub["counts"]["W1"]
    return asdict(
        plan_of(
            sizes["w1_orchestrations"],
            sizes["w1_steps"],
            hub["partitions"],
            hub["prefetch"],
            counted["storage"],
            counted["to partitions"],
            counted["tasks"],
            hub["row properties"],
        )
    )


def _largest(runs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the run that wrote and sent the most: what is judged."""
    return max(runs, key=lambda counts: (entities(counts), messages(counts)))


def _span(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.2f} s (median of {len(seconds)}), {seconds[0]:.2f} s at most"


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

"""What is left of W1's rate while one activity in the same worker does nothing but compute?"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.fresh import in_fresh_process
from benchmarks.hub_under_test import HubUnderTest, open_hub_under_test
from benchmarks.tables import figure, table
from benchmarks.targets import SMALL_SAYS, Verdict
from benchmarks.workloads import FULL, SMALL, checked, triangle
from durabletask_azure import ActivityContext, OrchestrationContext

__all__ = ["COMMAND", "HELP", "measure", "run"]

COMMAND = "cpubound"
HELP = "W1's rate beside one CPU-bound activity, as a fraction of its rate without"

_RUNS = 5
_SHARE_MIN = 0.25
_BEGIN_S = 60.0


def burn(ctx: ActivityContext, folder: str) -> int:
    """Compute until a file says stop; it is looked for so seldom that the thread hardly ever waits for anything."""
    (Path(folder) / "burning").touch()
    stop, value = Path(folder) / "stop", 0
    while not stop.exists():
        for index in range(500_000):
            value = (value + index * 7) & 0xFFFFFF
    return value


async def burning(ctx: OrchestrationContext, folder: str) -> bool:
    """Run one CPU-bound activity."""
    return await ctx.call_activity(burn, input=folder) >= 0


def measure(small: bool) -> dict[str, list[float]]:
    """Return W1's rates without and beside the activity, run by turns on one hub."""
    rates: dict[str, list[float]] = {"alone": [], "beside": []}
    with open_hub_under_test(burning, activities=(burn,)) as opened:
        _rate(opened, small)
        for _ in range(1 if small else _RUNS):
            rates["alone"].append(_rate(opened, small))
            with tempfile.TemporaryDirectory(prefix="benchmark-burn-") as folder:
                burner = opened.client.schedule_new_orchestration(burning, input=folder)
                try:
                    _wait_for(Path(folder) / "burning")
                    rates["beside"].append(_rate(opened, small))
                finally:
                    (Path(folder) / "stop").touch()
                    opened.client.wait_for_orchestration_completion(burner, timeout=_BEGIN_S)
    return rates


def _rate(opened: HubUnderTest, small: bool) -> float:
    sizes = SMALL if small else FULL
    begun = time.perf_counter()
    results = asyncio.run(opened.chains(sizes.w1_orchestrations, sizes.w1_steps))
    seconds = time.perf_counter() - begun
    checked(results, [triangle(sizes.w1_steps)] * sizes.w1_orchestrations)
    return sizes.w1_orchestrations / seconds


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + _BEGIN_S
    while not file.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the CPU-bound activity did not begin")
        time.sleep(0.01)


def run(*, small: bool) -> None:
    """Measure in a process of its own and print the rates and the verdict."""
    rates = in_fresh_process("cpubound", small=small)
    rows = [
        (name, figure(statistics.median(values)), figure(min(values)), figure(max(values)))
        for name, values in (("alone", rates["alone"]), ("beside a CPU-bound activity", rates["beside"]))
    ]
    print(table(("W1, orchestrations/s", "median", "min", "max"), rows))
    share = statistics.median(rates["beside"]) / statistics.median(rates["alone"])
    text = f"{share:.2f} of the undisturbed rate, at least {_SHARE_MIN}"
    print(SMALL_SAYS if small else Verdict(passed=share >= _SHARE_MIN, text=text))

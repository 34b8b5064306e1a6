"""F25, F26: a minute of trouble under load: nothing is lost, all goes on within a minute, memory stays what it was.

Services are away, or answer every call with a refusal. `OUTAGE_S` is how long; the figures of a run are printed, and
the newest are in docs/reliability.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import pytest

from benchmarks.processes import rss_mib
from tests.torture.cast import Actor
from tests.torture.checker import Evidence
from tests.wire.http_gate import HttpRule
from tests.wire_faults.site import MARKS, Site

pytestmark = [*MARKS, pytest.mark.slow, pytest.mark.timeout(420)]

OUTAGE_S: Final = 60.0
RECOVERY_S: Final = 60.0
INFLIGHT: Final = 60
GROWTH_MIB_MAX: Final = 48.0
RETRY_AFTER_S: Final = 2.0
ALWAYS: Final = 1_000_000
"""More often than anything is asked for in a minute: as often as it is asked."""


@dataclass
class Memory:
    """The most memory each process held, by the part of the run."""

    actors: dict[str, Actor]
    most: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])

    def look(self, part: str) -> bool:
        """Look once; true, so that it can be part of a condition."""
        most = self.most.setdefault(part, {})
        for name, actor in self.actors.items():
            most[name] = max(most.get(name, 0.0), rss_mib(actor.pid))
        return True

    def growth(self) -> float:
        """Return by how much the process that grew most is larger than before the outage."""
        parts = (self.most["in"], self.most["after"])
        return max(part[name] - self.most["before"][name] for part in parts for name in self.actors)


def in_flight(site: Site) -> set[str]:
    """Return what was accepted, and has not been seen to end."""
    evidence = Evidence.read(site.folder)
    return set(evidence.accepted) - set(evidence.observed)


@pytest.mark.parametrize("away", ["bus", "storage", "both"])
def test_f25_f26_an_outage_of_a_minute_under_load_loses_nothing(site: Site, away: str) -> None:
    def begin() -> None:
        for front in site.services.fronts:
            for proxy in front.proxies:
                if away == "both" or (proxy is front.bus) == (away == "bus"):
                    proxy.refuse()
                    proxy.cut()

    through_a_minute_of_it(site, f"{away} away", begin)


@pytest.mark.parametrize("refusing", ["bus", "storage"])
def test_f25_a_storm_of_refusals_of_a_minute_under_load_loses_nothing(site: Site, refusing: str) -> None:
    def begin() -> None:
        if refusing == "bus":
            for operation in ("attach", "send", "settle", "manage"):
                site.emulator.fault(kind="throttle", operation=operation, count=ALWAYS)
        for front in site.services.fronts if refusing == "storage" else ():
            for rules in (front.table_rules, front.blob_rules):
                rules.add(HttpRule("refuse", status=503, retry_after_s=RETRY_AFTER_S, count=None))

    def refusals() -> int:
        if refusing == "bus":
            return site.emulator.faults_hit(ALWAYS)
        return sum(front.table_rules.hits + front.blob_rules.hits for front in site.services.fronts)

    through_a_minute_of_it(site, f"{refusing} refusing", begin, refusals)


def through_a_minute_of_it(
    site: Site, what: str, begin: Callable[[], None], refusals: Callable[[], int] | None = None
) -> None:
    """Let a trouble begin under load, end it after a minute, and look at what becomes of everything."""
    actors = {name: site.working(name)[0] for name in ("one", "two")} | {
        "client": site.load("client", INFLIGHT)
    }
    memory = Memory(actors)
    site.until(
        lambda: memory.look("before") and len(Evidence.read(site.folder).observed) >= 100, "a hundred ends"
    )
    begin()
    over = time.monotonic() + OUTAGE_S
    site.until(lambda: memory.look("in") and time.monotonic() > over, "the end of it", OUTAGE_S + 30.0)
    interrupted = in_flight(site)
    seen = len(Evidence.read(site.folder).observed)
    refused = None if refusals is None else refusals()
    site.emulator.clear_faults()
    for front in site.services.fronts:
        front.heal()
    began = time.monotonic()
    site.until(lambda: len(Evidence.read(site.folder).observed) > seen, "the first end", RECOVERY_S)
    first_s = time.monotonic() - began
    site.until(lambda: memory.look("after") and not interrupted & in_flight(site), "all to end", RECOVERY_S)
    all_s = time.monotonic() - began
    (site.folder / "stop").touch()
    assert actors["client"].wait(120.0) == 0
    assert [actor.is_running for actor in actors.values()] == [True, True, False]

    print(f"{what} for {OUTAGE_S:.0f} s: {len(interrupted)} instances interrupted, {seen} ended before")
    if refused is not None:
        print(f"  {refused} refusals")
        assert refused > 0
    print(f"  first end {first_s:.1f} s after it, all that was interrupted ended after {all_s:.1f} s")
    for name in actors:
        rss = ", ".join(f"{part} {most[name]:.0f}" for part, most in memory.most.items())
        print(f"  {name}: most MiB {rss}")
    assert len(interrupted) >= INFLIGHT // 2
    assert memory.growth() < GROWTH_MIB_MAX
    site.settle()

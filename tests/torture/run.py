"""One torture run: set up, harmed, brought to rest, judged, purged, and looked at for what is left."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Final

from durabletask_azure import AsyncTaskHubClient, OrchestrationQuery, TaskHub, TaskHubError
from tests.torture.cast import Actor
from tests.torture.checker import Evidence, Found, Verdict, judge
from tests.torture.hubs import HubUnderTest, open_hub
from tests.torture.life import TRY_AGAIN, pause
from tests.torture.nemesis import Nemesis
from tests.torture.programs import OLD

_RECORD: Final = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ ([\w.]+): ")
"""The first line of a log record, as the processes of the torture write it, with the logger's name."""
_MISTAKES: Final = tuple(
    f"{kind.__name__}:"
    for kind in (
        AttributeError,
        IndexError,
        KeyError,
        NameError,
        RecursionError,
        TypeError,
        UnboundLocalError,
        ZeroDivisionError,
    )
)


@dataclass(frozen=True)
class Plan:
    """How a run goes; times in seconds.

    Attributes:
        seconds: how long it is harmed.
        seed: of everything that is left to chance here.
        workers: how many worker processes.
        clients: how many client processes.
        inflight: how many orchestrations a client has under way at once.
        pause_s: between two harms, on average.
        stop_s_max: how long a process is stopped at most.
        settle_s: how long everything may take to end after the last harm.
    """

    seconds: float
    seed: int = 0
    workers: int = 3
    clients: int = 2
    inflight: int = 10
    pause_s: float = 1.0
    stop_s_max: float = 8.0
    settle_s: float = 180.0


@dataclass
class Report:
    """What a run came to."""

    plan: Plan
    verdict: Verdict = field(default_factory=Verdict)
    harms: Counter[str] = field(default_factory=Counter[str])
    kills: int = 0
    deaths: list[str] = field(default_factory=list[str])
    unfinished: list[str] = field(default_factory=list[str])
    leftovers: list[str] = field(default_factory=list[str])
    bugs: list[str] = field(default_factory=list[str])
    settled_s: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether all is as it should be."""
        rest = (self.deaths, self.unfinished, self.leftovers, self.bugs)
        return self.verdict.is_clean and not any(rest)

    def lines(self) -> Iterator[str]:
        """Yield the report, a line each."""
        verdict = self.verdict
        yield f"seed {self.plan.seed}, {self.plan.seconds:g} s: {verdict.started} orchestrations started"
        yield f"  ended {verdict.ended}, activity runs {verdict.runs}, kills {self.kills}"
        yield "  " + ", ".join(f"{name} {count}" for name, count in sorted(self.harms.items()))
        counts = {
            "lost": verdict.lost,
            "wrong results": verdict.wrong,
            "double completions": verdict.double,
            "leftovers": self.leftovers,
            "processes that died": self.deaths,
            "clients not done": self.unfinished,
            "errors of our own": self.bugs,
        }
        yield "  " + ", ".join(f"{name} {len(found)}" for name, found in counts.items())
        yield f"  all ended {self.settled_s:.1f} s after the last harm"
        yield f"  slowest recovery {verdict.slowest_s:.1f} s ({verdict.slowest})"
        for name, found in counts.items():
            for line in found[:20]:
                yield f"  {name}: {line}"


def torture(plan: Plan, hub: HubUnderTest, folder: Path) -> Report:
    """Run it all, and return what came of it. The hub is left open to be looked at."""
    cast = Cast(plan, hub, folder)
    nemesis = Nemesis(
        cast.workers, cast.clients, folder, random.Random(plan.seed), plan.pause_s, plan.stop_s_max
    )
    nemesis.harms += hub.harms()
    report = Report(plan)
    try:
        cast.start()
        nemesis.run(plan.seconds)
        report.harms, report.kills, report.deaths = nemesis.counts, nemesis.kills, nemesis.deaths
        report.unfinished = cast.finish(report.deaths)
        report.settled_s = time.time() - nemesis.last_at
        found = asyncio.run(look(hub))
        report.verdict = judge(Evidence.read(folder), found)
        asyncio.run(purge(hub, plan.settle_s))
        report.deaths += cast.drain()
        report.leftovers = hub.leftovers()
        report.bugs = bugs_in(folder)
    finally:
        cast.kill()
    return report


class Cast:
    """All processes of a run."""

    def __init__(self, plan: Plan, hub: HubUnderTest, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        (folder / "version").write_text(OLD)
        self.workers = [
            Actor(
                f"worker-{number}",
                ["tests.torture.worker_process", str(folder), "--version", OLD],
                folder,
                hub.environment(f"worker-{number}"),
            )
            for number in range(plan.workers)
        ]
        self.clients = [
            Actor(
                f"client-{number}",
                [
                    "tests.torture.client_process",
                    str(folder),
                    f"c{number}",
                    "--seed",
                    str(plan.seed * 1000 + number),
                    "--inflight",
                    str(plan.inflight),
                ],
                folder,
                hub.environment(f"client-{number}"),
            )
            for number in range(plan.clients)
        ]

    def start(self) -> None:
        """Start every process."""
        for actor in (*self.workers, *self.clients):
            actor.start()

    def finish(self, deaths: list[str]) -> list[str]:
        """Have the clients start nothing more and see everything to its end; return those that did not come to it.

        Workers that end meanwhile, and had no reason to, are added to ``deaths``.
        """
        (self._folder / "stop").touch()
        deadline = time.monotonic() + self._plan.settle_s
        while time.monotonic() < deadline and any(client.is_running for client in self.clients):
            for actor in (*self.workers, *self.clients):
                if actor.is_running:
                    continue
                code = actor.wait()
                if actor in self.workers and code != TRY_AGAIN:
                    deaths.append(f"{actor.name}: exit code {code} when nothing was amiss")
                if actor in self.workers or code == TRY_AGAIN:
                    actor.start()
            threading.Event().wait(0.05)
        return [client.name for client in self.clients if client.wait(0.0) != 0]

    def drain(self) -> list[str]:
        """End the workers in order; return those that did not end so."""
        codes = {worker.name: worker.drain() for worker in self.workers}
        return [f"{name}: exit code {code} when it was to end" for name, code in codes.items() if code]

    def kill(self) -> None:
        """End whatever still runs."""
        for actor in (*self.workers, *self.clients):
            if actor.is_running:
                actor.kill()


async def look(hub: HubUnderTest) -> dict[str, Found]:
    """Return every instance with its history."""
    return await found_in(open_hub(hub.environment(None)))


async def found_in(hub: TaskHub) -> dict[str, Found]:
    """Return every instance of a hub with its history, and close the hub."""
    found: dict[str, Found] = {}
    async with hub as opened:
        client = AsyncTaskHubClient(opened)
        query = OrchestrationQuery(fetch_inputs_and_outputs=True)
        async for state in client.iter_orchestration_states(query):
            ended_at = state.completed_at
            found[state.instance_id] = Found(
                state.runtime_status.name,
                state.serialized_output,
                None if ended_at is None else ended_at.replace(tzinfo=UTC).timestamp(),
                await client.get_orchestration_history(state.instance_id),
            )
    return found


async def purge(hub: HubUnderTest, settle_s: float) -> None:
    """Purge everything, and wait until nothing is left, or the time is up."""
    deadline = time.monotonic() + settle_s
    async with open_hub(hub.environment(None)) as opened:
        client = AsyncTaskHubClient(opened)
        while time.monotonic() < deadline:
            with contextlib.suppress(TaskHubError):
                await client.purge_orchestrations_by(recursive=True)
            if not hub.leftovers():
                return
            await pause(0.5)


def bugs_in(folder: Path) -> list[str]:
    """Return lines of the logs that tell of a mistake of our own.

    That is an assertion that failed, wherever it is told of, or what only a mistake raises, told of by the package.
    """
    found: list[str] = []
    for path in sorted(folder.glob("log-*.txt")):
        logger = ""
        for line in path.read_text(errors="replace").splitlines():
            begins = _RECORD.match(line)
            if begins is not None:
                logger = begins[1]
            ours = logger.startswith("durabletask_azure") and line.startswith(_MISTAKES)
            if ours or line.startswith(("AssertionError", "    assert ")):
                found.append(f"{path.name}: {line}")
    return found

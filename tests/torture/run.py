"""One torture run: set up, harmed, brought to rest, judged, purged, and looked at for what is left."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path

from durabletask_azure import AsyncTaskHubClient, OrchestrationQuery, TaskHubError
from tests.torture.cast import Actor
from tests.torture.checker import Evidence, Found, Verdict, judge
from tests.torture.hubs import HubUnderTest, open_hub
from tests.torture.life import pause
from tests.torture.nemesis import Nemesis
from tests.torture.programs import OLD


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


def torture(plan: Plan, hub: HubUnderTest, folder: Path, harm: Nemesis | None = None) -> Report:
    """Run it all, and return what came of it. The hub is left open to be looked at."""
    cast = Cast(plan, hub, folder)
    nemesis = harm or Nemesis(
        cast.workers, cast.clients, folder, random.Random(plan.seed), plan.pause_s, plan.stop_s_max
    )
    report = Report(plan)
    try:
        cast.start()
        nemesis.run(plan.seconds)
        report.harms, report.kills, report.deaths = nemesis.counts, nemesis.kills, nemesis.deaths
        report.unfinished = cast.finish()
        report.settled_s = time.time() - nemesis.last_at
        found = asyncio.run(look(hub))
        report.verdict = judge(Evidence.read(folder), found)
        asyncio.run(purge(hub, plan.settle_s))
        cast.drain()
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
                hub.environment,
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
                hub.environment,
            )
            for number in range(plan.clients)
        ]

    def start(self) -> None:
        """Start every process."""
        for actor in (*self.workers, *self.clients):
            actor.start()

    def finish(self) -> list[str]:
        """Have the clients start nothing more and see everything to its end; return those that did not come to it."""
        (self._folder / "stop").touch()
        deadline = time.monotonic() + self._plan.settle_s
        return [
            client.name for client in self.clients if client.wait(max(deadline - time.monotonic(), 0.1)) != 0
        ]

    def drain(self) -> None:
        """End the workers in order."""
        for worker in self.workers:
            worker.drain()

    def kill(self) -> None:
        """End whatever still runs."""
        for actor in (*self.workers, *self.clients):
            if actor.is_running:
                actor.kill()


async def look(hub: HubUnderTest) -> dict[str, Found]:
    """Return every instance with its history."""
    found: dict[str, Found] = {}
    async with open_hub(hub.environment) as opened:
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
    async with open_hub(hub.environment) as opened:
        client = AsyncTaskHubClient(opened)
        while time.monotonic() < deadline:
            with contextlib.suppress(TaskHubError):
                await client.purge_orchestrations_by(recursive=True)
                counts = await client.get_hub_statistics()
                waiting = counts.messages_waiting + counts.messages_scheduled
                tasks = counts.activities_waiting + (counts.activities_running or 0)
                if not (sum(counts.instances.values()) + waiting + tasks):
                    return
            await pause(0.2)


def bugs_in(folder: Path) -> list[str]:
    """Return lines of the logs that tell of a mistake of our own: an assertion that failed."""
    return [
        f"{path.name}: {line}"
        for path in sorted(folder.glob("log-*.txt"))
        for line in path.read_text(errors="replace").splitlines()
        if line.startswith(("AssertionError", "    assert "))
    ]

"""A client under torture.

It starts orchestrations until the file `stop` is in the folder, sees each to its end, and ends. It may be killed at any
line: begun again it goes on with what its journal says. Errors of a hub that is away are no reason to give up.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from durabletask_azure import (
    AsyncTaskHubClient,
    OrchestrationAlreadyExistsError,
    OrchestrationIdReusePolicy,
    OrchestrationState,
    OrchestrationStatus,
    TaskHubError,
)
from tests.torture.expectations import Start, choose, ticks
from tests.torture.hubs import open_hub
from tests.torture.journal import Entry, Journal
from tests.torture.life import pause, run
from tests.torture.programs import TICK

T = TypeVar("T")
log = logging.getLogger("torture.client")
WAIT_S = 10.0
KEEP = OrchestrationIdReusePolicy(
    replaceable_status=(),
    ignorable_status=[
        status for status in OrchestrationStatus if status is not OrchestrationStatus.CONTINUED_AS_NEW
    ],
)


class Client:
    """One client: what it does with each orchestration, from its intent to its end."""

    def __init__(self, client: AsyncTaskHubClient, journal: Journal, folder: Path, seed: int) -> None:
        self._client = client
        self._journal = journal
        self._folder = folder
        self._random = random.Random(seed)

    async def persist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call again until it gets through."""
        while True:
            try:
                return await call()
            except (TaskHubError, TimeoutError) as error:
                if isinstance(error, OrchestrationAlreadyExistsError):
                    raise
                log.warning("again: %r", error)
                await pause(0.2)

    async def begin(self, starts: list[Start]) -> None:
        """Write the intent down, then carry it out."""
        # In one write: of two that belong together, whoever goes on after a kill knows both or neither.
        self._journal.note_all(Entry("intent", start.instance, time.time(), start) for start in starts)
        # Side by side: of two that belong together either may be first.
        await asyncio.gather(*(self.see_through(start) for start in starts))

    async def see_through(self, start: Start) -> None:
        """Start an orchestration, or find it started, do what it waits for, and see its end."""
        instance = start.instance
        await self.persist(
            lambda: self._client.schedule_new_orchestration(
                start.kind,
                input=start.order,
                instance_id=instance,
                version=start.version,
                reuse_id_policy=KEEP,
            )
        )
        self._journal.note("accepted", instance)
        await self.steer(start)
        state = await self.end(instance)
        self._journal.note(
            "observed", instance, status=state.runtime_status.name, output=state.serialized_output
        )
        if self._random.random() < 0.2:
            await self.purge(instance)

    async def steer(self, start: Start) -> None:
        """Raise the events an orchestration waits for, some of them twice; terminate it; suspend and resume it."""
        instance = start.instance
        for told in ticks(start):
            for _ in range(self._random.choice((1, 1, 2))):
                await self.persist(
                    lambda told=told: self._client.raise_orchestration_event(
                        instance, TICK, data=told, event_id=f"{instance}/{told}"
                    )
                )
        if start.kind == "halted":
            await self.persist(
                lambda: self._client.terminate_orchestration(instance, output=f"halted {instance}")
            )
        elif start.kind == "chain" and start.order.value % 5 == 0:
            await self.persist(lambda: self._client.suspend_orchestration(instance))
            await self.persist(lambda: self._client.resume_orchestration(instance))

    async def end(self, instance: str) -> OrchestrationState:
        """Wait for the end of an instance, however long it takes."""

        async def wait() -> OrchestrationState:
            state = await self._client.wait_for_orchestration_completion(instance, timeout=WAIT_S)
            assert state is not None
            return state

        return await self.persist(wait)

    async def purge(self, instance: str) -> None:
        """Purge an instance with its children."""
        self._journal.note("purging", instance)
        done = await self.persist(lambda: self._client.purge_orchestration(instance, recursive=True))
        if done.is_complete and done.deleted_instance_count:
            self._journal.note("purged", instance)

    # ------------------------------------------------------------ the whole

    async def resume(self) -> None:
        """Go on with what a killed process of this client had begun."""
        starts = {entry.instance: entry.start for entry in self._journal.entries if entry.start is not None}
        seen = {entry.instance for entry in self._journal.entries if entry.what == "observed"}
        rest = [start for instance, start in starts.items() if instance not in seen]
        log.info("going on with %d", len(rest))
        await asyncio.gather(*(self.see_through(start) for start in rest))

    async def work(self, name: str, slot: int, pause_s: float) -> None:
        """Start one after the other until there is an end to it."""
        begun = sum(entry.what == "intent" for entry in self._journal.entries)
        while not (self._folder / "stop").exists():
            begun += 1
            instance = f"{name}-{slot}-{begun}"
            version = (self._folder / "version").read_text()
            await self.begin(choose(self._random, instance, version))
            await pause(pause_s * self._random.random() * 2)


async def main(folder: Path, name: str, seed: int, inflight: int, pause_s: float) -> None:
    journal = Journal(folder / f"client-{name}.jsonl")
    async with open_hub() as hub:
        # Another seed each time it begins anew: the ids differ by what is in the journal.
        client = Client(AsyncTaskHubClient(hub), journal, folder, seed + len(journal.entries))
        async with asyncio.TaskGroup() as group:
            group.create_task(client.resume())
            for slot in range(inflight):
                group.create_task(client.work(name, slot, pause_s))
    journal.close()


def play(arguments: Sequence[str]) -> int:
    """Be a client until all is done; `arguments` are `FOLDER NAME --seed 7 --inflight 20`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inflight", type=int, default=10)
    parser.add_argument("--pause", type=float, default=0.05)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return run(main(options.folder, options.name, options.seed, options.inflight, options.pause))

"""A hub whose messages, tasks and rows somebody else writes to, and what has to hold all the same."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from durabletask_azure import (
    ActivityContext,
    DurableTaskError,
    OrchestrationContext,
    OrchestrationStatus,
    TaskHubClient,
    TaskHubWorker,
)
from durabletask_azure.core.partitioning import partition_of
from tests.mangling import corpus
from tests.mangling.mutator import Mutator
from tests.mangling.places import PARTITIONS, Place

VICTIMS: Final = 12
BYSTANDERS: Final = 4
WAIT_S: Final = 120.0
# What a worker says when it has met an error of its own.
COMPLAINTS: Final = (
    "the partition's loop failed",
    "failed; it is started again",
    "a task of the activity loop failed",
)


def work(ctx: ActivityContext, value: Any) -> Any:
    return value


async def child(ctx: OrchestrationContext, value: Any) -> Any:
    return value


async def victim(ctx: OrchestrationContext, _: Any) -> Any:
    """Wait for what only the mangled messages bring."""
    ctx.set_custom_status("waiting")
    done = [await ctx.call_activity(work, input=number) for number in range(3)]
    await ctx.call_sub_orchestrator(child, input=done)
    return [await ctx.wait_for_external_event("never"), await ctx.wait_for_external_event("never")]


async def bystander(ctx: OrchestrationContext, count: int) -> int:
    """Wait for an event, and do what can be checked."""
    total = await ctx.wait_for_external_event("go")
    for number in range(count):
        total += await ctx.call_activity(work, input=number)
    return total + await ctx.call_sub_orchestrator(child, input=100)


class _Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if any(complaint in text for complaint in COMPLAINTS):
            self.texts.append(f"{text}: {record.exc_info and record.exc_info[1]!r}")


@contextmanager
def complaints() -> Generator[list[str]]:
    """Gather what workers say of errors of their own."""
    handler, logger = _Complaints(), logging.getLogger("durabletask_azure")
    before, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield handler.texts
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        logger.propagate = propagates


def _answer(ask: Callable[[], object]) -> str:
    """Return `answered`, or the name of the error that a client got, which is one of the package."""
    try:
        ask()
    except DurableTaskError as error:
        return type(error).__name__
    return "answered"


class Victims:
    """A hub with instances to be mangled and others beside them."""

    def __init__(self, place: Place, seed: int) -> None:
        self._place = place
        self._random = random.Random(seed)
        self.hub = place.open_hub()
        self.client = TaskHubClient(self.hub)
        self.worker = TaskHubWorker(self.hub)
        for orchestrator in (victim, bystander, child):
            self.worker.add_orchestrator(orchestrator)
        self.worker.add_activity(work)
        self.bystanders: list[str] = []
        self.victims = [f"victim-{number}" for number in range(VICTIMS)]

    # ------------------------------------------------------------ the healthy ones

    def begin(self) -> None:
        """Start everybody, and let them come to where they wait."""
        self.worker.start()
        for instance_id in self.victims:
            self.client.schedule_new_orchestration(victim, instance_id=instance_id)
        self.add_bystanders()
        for instance_id in self.victims:
            self._until(partial(self._waits, instance_id))

    def add_bystanders(self) -> None:
        """Start more who must not notice anything."""
        for _ in range(BYSTANDERS):
            self.bystanders.append(self.client.schedule_new_orchestration(bystander, input=5))

    def check_bystanders(self) -> None:
        """Let all of them go on to their end, and compare it."""
        for instance_id in self.bystanders:
            self.client.raise_orchestration_event(instance_id, "go", data=1)
        for instance_id in self.bystanders:
            state = self.client.wait_for_orchestration_completion(instance_id, timeout=WAIT_S)
            assert state is not None
            assert state.runtime_status is OrchestrationStatus.COMPLETED, state.failure_details
            assert state.get_output() == 1 + sum(range(5)) + 100
        self.bystanders.clear()

    # ------------------------------------------------------------ the mangled ones

    def mangle_messages(self, count: int) -> None:
        """Put mangled messages and a few mangled tasks into the queues, and wait until all are dealt with."""
        target = self._random.choice(self.victims)
        execution = self._execution_of(target)
        messages = Mutator(self._random.randrange(2**32), corpus.packs(target, execution))
        tasks = Mutator(self._random.randrange(2**32), corpus.tasks(target, execution))
        self._place.send(
            partition_of(target, PARTITIONS),
            [messages.one() for _ in range(count)],
            [tasks.one() for _ in range(count // 10)],
        )
        self._until(self._place.is_quiet)

    def mangle_rows(self) -> Counter[str]:
        """Mangle every victim's row while nobody has it in memory, and ask for all that a row is asked for.

        Return how many rows were mangled, and what clients were answered.
        """
        seen: Counter[str] = Counter()
        self.worker.stop()
        seen["rows"] = self._place.mangle(self._random.randrange(2**32))
        self.worker.start()
        for instance_id in self.victims:
            for ask in self._questions(instance_id):
                seen[_answer(ask)] += 1
        seen[f"list: {_answer(self.client.get_all_orchestration_states)}"] += 1
        self._until(self._place.is_quiet)
        self.worker.stop()
        self._place.restore()
        self.worker.start()
        return seen

    def _questions(self, instance_id: str) -> list[Callable[[], object]]:
        client = self.client
        return [
            lambda: client.raise_orchestration_event(instance_id, "never", data=1),
            lambda: client.suspend_orchestration(instance_id),
            lambda: client.get_orchestration_state(instance_id),
            lambda: client.get_orchestration_history(instance_id),
            lambda: client.resume_orchestration(instance_id),
        ]

    def dead_letters(self) -> dict[str, int]:
        """Return how many dead letters there are, by reason, once all are dealt with."""
        # Told one by one, and by the tens of thousands in a run of volume.
        self._until(lambda: not self.client.get_hub_statistics().dead_letters_waiting, wait_s=10 * WAIT_S)
        return Counter(letter.reason for letter in self.client.list_dead_letters())

    def close(self) -> None:
        """End everything."""
        self.hub.close()

    # ------------------------------------------------------------ inside

    def _waits(self, instance_id: str) -> bool:
        kinds = [type(event).__name__ for event in self.client.get_orchestration_history(instance_id)]
        return "SubOrchestrationInstanceCompletedEvent" in kinds

    def _execution_of(self, instance_id: str) -> str:
        try:
            state = self.client.get_orchestration_state(instance_id)
        except DurableTaskError:
            return "x1"
        return "x1" if state is None else state.execution_id

    def _until(self, fits: Callable[[], bool], wait_s: float = WAIT_S) -> None:
        clock = self.hub.ports.clock
        deadline = clock.monotonic() + wait_s
        while not fits():
            assert clock.monotonic() < deadline, "it never came true"
            self.hub.run(lambda: clock.sleep(0.02))

"""The archive of dead letters and the counts of the simulated hub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.ports import ArchivedLetter, DeadLetter, HubCounts
from tests.simulation.fakes.broker import Dead
from tests.simulation.fakes.gate import Gate

__all__ = ["SimArchive", "SimStatistics"]


class SimArchive:
    """Kept dead letters; nothing is lost of them when a worker dies."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._kept = gate.world.kept_letters

    async def keep(self, letter: DeadLetter) -> None:
        def effect() -> None:
            broker = (
                self._gate.world.sessions if letter.partition is not None else self._gate.world.activities
            )
            if isinstance(letter.token, Dead) and letter.token in broker.dead:
                broker.dead.remove(letter.token)
                self._kept[str(len(self._kept) + 1)] = letter

        # The call it stands in for: runs recorded by their seed stay what they were.
        queue = "queue" if letter.partition is not None else "activities"
        await self._gate.call(f"{queue}.settle_dead_letter", effect)

    async def kept(self) -> Sequence[ArchivedLetter]:
        return await self._gate.call(
            "archive.kept", lambda: [ArchivedLetter(*entry) for entry in self._kept.items()]
        )

    async def find(self, letter_id: str) -> ArchivedLetter | None:
        def effect() -> ArchivedLetter | None:
            letter = self._kept.get(letter_id)
            return None if letter is None else ArchivedLetter(letter_id, letter)

        return await self._gate.call("archive.find", effect)

    async def remove(self, letter_id: str) -> None:
        await self._gate.call("archive.remove", lambda: self._kept.pop(letter_id, None))


class SimStatistics:
    """Counts, as a service gives them that does not count by session."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def count(self) -> HubCounts:
        def effect() -> HubCounts:
            world = self._gate.world
            instances: Counter[RuntimeStatus] = Counter(
                stored.row.status
                for rows in world.table.partitions.values()
                for stored in rows.instances.values()
            )
            partitions = range(world.info.partitions)
            tasks = world.activities.waiting()
            running = sum(task.locked_until > world.time() for task in tasks)
            return HubCounts(
                instances=dict(instances),
                partitions=(),
                messages_waiting=sum(len(world.sessions.waiting(number)) for number in partitions),
                messages_scheduled=sum(len(world.sessions.scheduled(number)) for number in partitions),
                tasks_waiting=len(tasks) - running,
                tasks_running=running,
                dead_waiting=len(world.sessions.dead) + len(world.activities.dead),
                dead_kept=len(world.kept_letters),
                stored_bytes=None,
            )

        return await self._gate.call("statistics.count", effect)

"""The world faults of a plan that are more than an outage: restarts, lost and damaged things, a new queue, old code.

``faults`` says when and whom; here it happens. What a fault takes from an instance for good is noted: such an instance,
and whoever waits for it, need not come to the result the model has for it, only to an end.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from durabletask_azure.core.history import TimerFiredEvent
from durabletask_azure.core.messages import StartInstance
from durabletask_azure.core.payloads import payload_prefix
from durabletask_azure.core.rows import InstanceRow
from tests.simulation.fakes.broker import Item
from tests.simulation.fakes.queue_ports import read_pack
from tests.simulation.faults import Window
from tests.simulation.virtual_time import pause, pause_until

if TYPE_CHECKING:
    from tests.simulation.run import Run

__all__ = ["Weather"]


class Weather:
    """The world faults of one run, and whom they harmed."""

    def __init__(self, run: Run, seed: int) -> None:
        self._run = run
        self._random = Random(f"run/{seed}")
        self._lost_blobs: set[str] = set()
        self._unread: set[str] = set()
        self.queue_was_lost = False

    @property
    def harmed_any(self) -> bool:
        """Whether something was taken from an instance for good."""
        return bool(self._lost_blobs or self._unread)

    def poisoned(self, rows: dict[str, InstanceRow]) -> frozenset[str]:
        """Return the instances that something was taken from, and all that wait for one of them."""
        partitions = self._run.world.info.partitions
        owners = {
            name
            for name in rows
            for partition in range(partitions)
            if any(blob.startswith(payload_prefix(partition, name)) for blob in self._lost_blobs)
        }
        return _with_ancestors(owners, rows)

    def stuck(self, rows: dict[str, InstanceRow]) -> frozenset[str]:
        """Return the instances whose messages were put aside because their row could not be read, and who waits."""
        return _with_ancestors(self._unread, rows)

    async def strike(self, window: Window) -> None:
        """Let one world fault happen at its time."""
        await pause_until(window.begin)
        run = self._run
        counts = run.report.counts
        match window.kind:
            case "restart":
                counts["F31"] += 1
                run.restart(window.gate)
            case "stop twice":
                counts["F31"] += 1
                run.restart(window.gate, twice=True)
            case "rolling":
                counts["F32"] += 1
                await self._roll()
            case "codeless":
                counts["F29"] += 1
                counts["F32"] += 1
                await self._old_version(window)
            case "recreate":
                counts["F35"] += 1
                run.world.sessions.recreate(_is_wake_up)
            case "failover":
                counts["F35"] += 1
                self.queue_was_lost = True
                run.world.sessions.recreate(keeps_ready=False)
                run.world.activities.recreate()
            case "poison":
                counts["F28"] += 1
                partition = self._random.randrange(run.world.info.partitions)
                run.world.sessions.inject(partition, f"poison-{window.begin}", b'{"what": "no message"}')
                run.world.activities.inject(f"poison-{window.begin}", b"no task")
            case "blob lost" | "blob damaged":
                await self._harm_blob(window)
            case "row damaged":
                await self._harm_row(window)
            case _:
                pass

    async def _roll(self) -> None:
        """Restart all workers, one after the other."""
        for name in self._run.worker_names:
            self._run.restart(name)
            await pause(self._random.uniform(1, 15))

    async def _old_version(self, window: Window) -> None:
        """Let a worker run a version that does not know all orchestrators, and then the new one again."""
        unknown = self._random.choice((("async",), ("generator",), ("async", "generator")))
        self._run.restart(window.gate, unknown=unknown)
        await pause_until(window.end)
        self._run.restart(window.gate)

    async def _harm_blob(self, window: Window) -> None:
        blobs = self._run.world.blobs
        while not blobs and self._run.world.time() < window.end:
            await pause(0.3)
        if not blobs:
            return
        name = self._random.choice(sorted(blobs))
        self._run.report.counts["F24"] += 1
        self._lost_blobs.add(name)
        data, at = blobs.pop(name)
        if window.kind == "blob damaged":
            blobs[name] = (b"\xff" * len(data), at)

    async def _harm_row(self, window: Window) -> None:
        world = self._run.world
        names = [name for rows in world.table.partitions.values() for name in rows.instances]
        if not names:
            return
        name = self._random.choice(sorted(names))
        self._unread.add(name)
        world.unreadable.add(name)
        # A warm instance needs no reading: every worker starts anew, so that its row is read.
        for worker in self._run.worker_names:
            self._run.restart(worker)
        await pause_until(window.end)
        world.unreadable.discard(name)


def _with_ancestors(names: set[str], rows: dict[str, InstanceRow]) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        row = rows.get(name)
        if row is not None and row.parent is not None and row.parent.instance_id not in found:
            waiting.append(row.parent.instance_id)
    return frozenset(found)


def _is_wake_up(item: Item) -> bool:
    """Tell whether a scheduled message is a timer or a start, which the sweep makes up for (a parked event is lost)."""
    return all(isinstance(message.body, StartInstance | TimerFiredEvent) for message in read_pack(item)[0])

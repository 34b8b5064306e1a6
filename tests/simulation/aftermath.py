"""What follows the last fault: recovery, repair if a queue was lost, judgement, purge, and what is left over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durabletask_azure.core.history import ContinuedEvent, EventRaisedEvent, RuntimeStatus
from durabletask_azure.core.partitioning import partition_of
from durabletask_azure.core.rows import PutInstance, PutSegment
from tests.simulation.chronicle import Chronicle, rebuild
from tests.simulation.fakes.ports import worker_ports
from tests.simulation.fakes.table import CommitRecord
from tests.simulation.invariants import Evidence, check_history, check_leftovers, check_results
from tests.simulation.model import expect
from tests.simulation.programs import Resume, Start, Terminate
from tests.simulation.virtual_time import pause

if TYPE_CHECKING:
    from tests.simulation.run import Run

__all__ = ["Aftermath"]

RECOVERY_S_MAX = 2_000.0
"""B: from the last fault and the last step's own waiting to the end of every instance."""
KILLS_MAX = 12
"""B: how many workers one instance may end before it is failed (F30). One that is alone ends seven, or an activity ten;
some more if it is tried for a message and for what the sweep finds, or another deadly one is failed in between."""
_LATE_MAX = 60
_RESUME_AGAIN_S = 60.0
"""Not oftener: every resume is one more id to remember, and few fit where limits are tight."""
_ORPHANS_OLDER_THAN_S = 600.0


class Aftermath:
    """The end of one run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._expected = expect(run.setup.case)

    async def settle(self) -> None:
        """Wait for the end of everything, judge it, remove it, and look for what is left."""
        run = self._run
        if run.weather.queue_was_lost:
            gate = run.gate("repair")
            await run.product.repair(worker_ports(gate, atomic=run.setup.atomic), run.settings)
            await run.clients.repeat()
        await self._recover()
        stuck = self._judge()
        if not run.report.failures:
            await self._purge(stuck)

    # -------------------------------------------------------- recovery
    def _stuck(self) -> frozenset[str]:
        rows = {
            name: stored.row
            for rows in self._run.world.table.partitions.values()
            for name, stored in rows.instances.items()
        }
        return self._run.weather.stuck(rows)

    def _open(self) -> list[str]:
        """Return what has not ended: instances that are not terminal or not there, and tasks."""
        run = self._run
        stuck = self._stuck()
        found = [
            name
            for rows in run.world.table.partitions.values()
            for name, stored in rows.instances.items()
            if not stored.row.status.is_terminal and name not in stuck
        ]
        for name, expected in self._expected.items():
            rows = run.world.table.rows(partition_of(name, run.setup.partitions))
            there = name in rows.instances or name in rows.tombstones
            if not expected.optional and not there and not self._lacks_parent(name, stuck):
                found.append(name)
        return found

    def _lacks_parent(self, name: str, stuck: frozenset[str]) -> bool:
        """Tell whether an explicit child may never have been started, because its parent was harmed."""
        root = name.split("-")[0]
        return root != name and (root in stuck or self._run.weather.harmed_any)

    def _busy(self) -> bool:
        """Tell whether something is still to be handled, or to be sent: an optional child may yet begin."""
        world = self._run.world
        if world.activities.waiting():
            return True
        return any(
            world.sessions.waiting(partition) or rows.lock.row.sent != rows.lock.row.n
            for partition, rows in world.table.partitions.items()
        )

    async def _recover(self) -> None:
        world = self._run.world
        end = world.time() + RECOVERY_S_MAX
        resumed_at = world.time() - _RESUME_AGAIN_S + 2.0
        while (self._open() or self._busy()) and world.time() < end:
            await pause(2.0)
            if world.time() - resumed_at >= _RESUME_AGAIN_S:
                resumed_at = world.time()
                await self._resume_again()
        still_open = self._open()
        if still_open:
            self._run.report.failures.append(
                f"B: still open after {RECOVERY_S_MAX:.0f} s: {sorted(still_open)}"
            )

    async def _resume_again(self) -> None:
        """Resume what is still suspended: a repeated suspend has its own id and may have come after the resume."""
        for rows in self._run.world.table.partitions.values():
            for name, stored in tuple(rows.instances.items()):
                if stored.row.status is RuntimeStatus.SUSPENDED:
                    await self._run.clients.persist(Resume(at=0.0, instance=name))

    # -------------------------------------------------------- judgement
    def _judge(self) -> frozenset[str]:
        run = self._run
        chronicle = rebuild(run.world.table.log)
        stuck = run.weather.stuck(chronicle.last_rows)
        poisoned = run.weather.poisoned(chronicle.last_rows) | stuck
        expected = {
            name: one
            for name, one in self._expected.items()
            if name in chronicle.last_rows or not self._lacks_parent(name, stuck)
        }
        evidence = Evidence(
            chronicle=chronicle,
            expected=expected,
            executions=run.harness.executions,
            blobs={name: data for name, (data, _at) in run.world.blobs.items()},
            faultless=run.setup.faultless,
            accepted=[action.instance for action in run.setup.case.client if isinstance(action, Start)],
            poisoned=poisoned,
            stuck=stuck,
        )
        run.report.failures += check_results(evidence)
        run.report.failures += check_history(evidence)
        if run.setup.plan.profile == "landed":
            run.report.failures += self._given_up()
        run.report.failures += [
            f"B: {name} ended {count} workers"
            for name, count in sorted(run.kills.items())
            if count > KILLS_MAX
        ]
        _count_seen(run, chronicle)
        return stuck

    def _given_up(self) -> list[str]:
        """B: where nothing but replies went wrong, a partition changes hands only to be shared out (F7)."""
        most = 2 * self._run.setup.workers
        return [
            f"B: partition {partition} changed hands {rows.lock.row.epoch} times, and no owner had failed"
            for partition, rows in sorted(self._run.world.table.partitions.items())
            if rows.lock.row.epoch > most
        ]

    # -------------------------------------------------------- purge
    async def _purge(self, stuck: frozenset[str]) -> None:
        run = self._run
        world = run.world
        for name in sorted(stuck):
            await run.clients.persist(Terminate(at=0.0, instance=name))
        for _ in range(60):
            if not stuck or not any(
                not stored.row.status.is_terminal
                for rows in world.table.partitions.values()
                for stored in rows.instances.values()
            ):
                break
            await pause(5.0)
        for partition in range(run.setup.partitions):
            for name in sorted(world.table.rows(partition).instances):
                gate = run.gate(f"purge-{name}")
                await run.product.purge(worker_ports(gate), name, run.settings, recursive=False)
        if run.profile.late:
            await self._deliver_late()
        # Copies the broker was made to deliver late are still on their way.
        for _ in range(150):
            await pause(5.0)
            if not check_leftovers(world):
                return
        await self._collect_orphans()
        run.report.failures += check_leftovers(world)

    async def _deliver_late(self) -> None:
        """Deliver copies of old messages once everything is gone (F33)."""
        world = self._run.world
        for _ in range(100):
            if not any(rows.instances for rows in world.table.partitions.values()):
                break
            await pause(2.0)
        step = max(1, len(world.sessions.copies) // _LATE_MAX)
        for number, (partition, body) in enumerate(tuple(world.sessions.copies)[::step]):
            self._run.report.counts["F33"] += 1
            world.sessions.inject(partition, f"late-{number}", body)

    async def _collect_orphans(self) -> None:
        """Delete the blobs nobody refers to, as an operator does, when nothing but blobs and segments is left.

        A worker that died between the upload and the commit, and a task that ran once more after the purge, leave one:
        that is promised to be collected, not to be avoided (B156, F24). The tombstones go first: they protect blobs,
        and they name the segments that a worker which died after a purge did not delete any more; these go with them.
        """
        run = self._run
        if any(": blobs" not in text and ": segments" not in text for text in check_leftovers(run.world)):
            return
        run.report.counts["orphaned blobs"] += len(run.world.blobs)
        run.report.counts["F24"] += bool(run.world.blobs)
        await pause(run.settings.tombstone_s + 2 * run.settings.sweep_s + _ORPHANS_OLDER_THAN_S)
        for partition in range(run.setup.partitions):
            await run.product.collect_orphans(
                worker_ports(run.gate(f"orphans-{partition}")), partition, _ORPHANS_OLDER_THAN_S
            )


def _count_seen(run: Run, chronicle: Chronicle) -> None:
    """Count the faults that show in what was written."""
    counts = run.report.counts
    before: dict[int, CommitRecord] = {}
    for record in run.world.table.log:
        if not isinstance(record, CommitRecord):
            continue
        last = before.get(record.partition)
        if last is not None and record.lock.epoch > last.lock.epoch and _is_staged(last):
            counts["F23"] += 1
        before[record.partition] = record
    for story in chronicle.stories.values():
        if story.started is not None and story.started.carried:
            counts["F20"] += 1
        ended = next((e.event.commit for e in story.entries if isinstance(e.event, ContinuedEvent)), None)
        if ended is not None and any(
            isinstance(e.event, EventRaisedEvent) and e.event.commit == ended for e in story.entries
        ):
            counts["F20"] += 1


def _is_staged(record: CommitRecord) -> bool:
    """Tell whether a transaction wrote only rows that nothing refers to yet."""
    return any(isinstance(write, PutSegment) for write in record.writes) and not any(
        isinstance(write, PutInstance) for write in record.writes
    )

"""The client's side of a run: the actions of the case, each repeated under the same keys until it is done.

A client that crashes is replaced by another that repeats the action.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from durabletask_azure.core.partitioning import partition_of
from durabletask_azure.core.rows import InstanceRow, PutInstance
from durabletask_azure.errors import OrchestrationAlreadyExistsError, TaskHubError
from tests.simulation.fakes.gate import Fault
from tests.simulation.fakes.ports import worker_ports
from tests.simulation.fakes.table import ClientWrite
from tests.simulation.interpreter import start_input
from tests.simulation.programs import Again, ClientAction, Purge, RaiseEvent, Rewind, Start, Terminate
from tests.simulation.virtual_time import pause, pause_until

if TYPE_CHECKING:
    from tests.simulation.run import Run

__all__ = ["Clients"]

_SECOND_LIFE_S_MAX = 2_500.0


class _DiesAfterInsert:
    """Ends a client between its row and its message (B102)."""

    def draw(self, gate: str, number: int, op: str, now: float) -> Fault | None:
        return Fault("crash_after") if op in ("store.insert_instance", "atomic.start") else None


class Clients:
    """The client of one run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._count = 0

    async def script(self) -> None:
        """Do what the case says, at its times."""
        actions: list[asyncio.Task[None]] = []
        streams: dict[str, asyncio.Task[None]] = {}
        for action in self._run.setup.case.client:
            await pause_until(action.at)
            if isinstance(action, Purge) or (isinstance(action, RaiseEvent | Terminate) and action.ahead):
                actions.append(asyncio.get_running_loop().create_task(self._act(action, None)))
                continue
            # One client's actions on one instance come one after the other: a resume never overtakes its suspend.
            before = streams.get(action.instance)
            task = asyncio.get_running_loop().create_task(self._act(action, before))
            streams[action.instance] = task
            actions.append(task)
        await asyncio.gather(*actions)

    async def repeat(self) -> None:
        """Do all but the starts once more, under the same keys: a lost queue has lost them."""
        for action in self._run.setup.case.client:
            if not isinstance(action, Start):
                await self.persist(action)

    async def _act(self, action: ClientAction, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        counts = self._run.report.counts
        rivals = 1
        if isinstance(action, Start):
            rivals = action.rivals
            counts["F21"] += rivals > 1
        elif isinstance(action, Again):
            counts["F21"] += 1
            await self._until_ended(action.instance)
        elif isinstance(action, RaiseEvent | Terminate) and action.ahead:
            counts["F19"] += 1
        elif isinstance(action, Rewind):
            await self._until_ended(action.instance)
        await asyncio.gather(*(self.persist(action) for _ in range(rivals)))

    async def _until_ended(self, instance: str) -> None:
        end = self._run.world.time() + _SECOND_LIFE_S_MAX
        while self._run.world.time() < end:
            found = self._row(instance)
            if found is not None and found.status.is_terminal:
                return
            await pause(1.0)

    def _row(self, instance: str) -> InstanceRow | None:
        rows = self._run.world.table.rows(partition_of(instance, self._run.setup.partitions))
        found = rows.instances.get(instance)
        return None if found is None else found.row

    async def persist(self, action: ClientAction) -> None:
        """Do one action, again and again under the same keys, until it is done."""
        run = self._run
        for attempt in range(60):
            if attempt and isinstance(action, Start | Again) and self._was_started(action):
                return
            self._count += 1
            gate = run.gate(f"client{self._count}")
            if isinstance(action, Start) and action.dies and attempt == 0:
                run.report.counts["client died after its insert"] += 1
                gate.faults = _DiesAfterInsert()
            ports = worker_ports(gate, atomic=run.setup.atomic)
            task = run.in_gate(gate, run.product.act(ports, run.setup.case, action, run.settings))
            await asyncio.wait({task})
            error = None if task.cancelled() or gate.dead else task.exception()
            if not gate.dead and error is None:
                return
            if isinstance(error, OrchestrationAlreadyExistsError) and isinstance(action, Start | Again):
                return
            if error is not None and not isinstance(error, TaskHubError):
                run.report.failures.append(f"BUG: {action} failed: {error!r}")
                return
            await pause(min(10.0, 0.5 * 2**attempt))
        run.report.failures.append(f"L: the client gave up: {action}")

    def _was_started(self, action: Start | Again) -> bool:
        """Tell whether this start was ever accepted: an ended instance must not be started again by a retry."""
        wanted = msgspec.json.encode(start_input(action.program, int(isinstance(action, Again)))).decode()
        for item in self._run.world.table.log:
            rows = (
                [item.row]
                if isinstance(item, ClientWrite)
                else [write.row for write in item.writes if isinstance(write, PutInstance)]
            )
            if any(row.instance_id == action.instance and row.input == wanted for row in rows):
                return True
        return False

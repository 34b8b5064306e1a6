"""An owner lets go of its session and takes it again, so that swallowed messages are delivered (F36)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

from durabletask_azure.adapters.local import open_local
from durabletask_azure.ports import HubPorts, PartitionSession
from durabletask_azure.settings import Settings
from tests.integration.owners import owner_of

LOCK_S = 0.3


class SlowToAccept:
    """An orchestration queue that takes longer to give a session than locks are renewed after."""

    def __init__(self, ports: HubPorts) -> None:
        self._ports = ports
        self.accepted = 0
        self.twice = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ports.orchestrations, name)

    async def accept(self, partition: int) -> PartitionSession | None:
        """Give the session."""
        await self._ports.clock.sleep(LOCK_S)
        self.accepted += 1
        if self.accepted == 2:
            self.twice.set()
        return await self._ports.orchestrations.accept(partition)


async def test_f36_a_lock_due_to_be_renewed_while_its_session_is_taken_again_loses_nothing() -> None:
    opened = open_local(None, partitions=1)
    queue = SlowToAccept(opened)
    ports = replace(opened, orchestrations=cast(Any, queue))
    settings = Settings(lock_s=LOCK_S, sweep_s=0.01)
    session = await opened.orchestrations.accept(0)
    assert session is not None
    owner = owner_of(session, ports, settings)
    running = asyncio.create_task(owner.run())
    async with asyncio.timeout(20):
        await queue.twice.wait()
        await owner.release()
        await running

    assert (owner.counters.partitions_taken, owner.counters.partitions_lost) == (1, 0)
    assert opened.close is not None
    await opened.close()

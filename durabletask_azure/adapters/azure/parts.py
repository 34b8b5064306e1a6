"""The connections of one Azure hub: its table, its container and the administration API, made and closed together.

Some are made for a single piece of work on the hub as a whole, some stay for as long as the hub is open.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from durabletask_azure.adapters.azure.administration import Administration
from durabletask_azure.adapters.azure.queue_plan import QueuePlan, plans_of
from durabletask_azure.adapters.blobs import HubBlobs
from durabletask_azure.adapters.tables import HubTable
from durabletask_azure.settings import Settings
from durabletask_azure.targets import HubNames, QueueOptions, ServiceBusTarget, StorageTarget

__all__ = ["HubParts", "HubPlace"]

_log = logging.getLogger("durabletask_azure.adapters.azure")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPlace:
    """Where a hub is and what it is to be like; ``manage`` is whether the administration API may be used."""

    service_bus: ServiceBusTarget
    storage: StorageTarget
    names: HubNames
    options: QueueOptions
    settings: Settings
    partitions: int | None
    manage: bool

    @property
    def plans(self) -> list[QueuePlan]:
        """What each queue is to be like."""
        return plans_of(self.names, self.options)

    def parts(self) -> HubParts:
        """Return connections, which open when they are first used."""
        return HubParts(
            table=HubTable(self.storage, self.names, self.settings),
            blobs=HubBlobs(self.storage, self.names, self.settings),
            administration=Administration(self.service_bus, self.settings) if self.manage else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HubParts:
    """The table, the container, and the administration API if it may be used; closed on the loop that used them."""

    table: HubTable
    blobs: HubBlobs
    administration: Administration | None

    async def close(self) -> None:
        """Close the connections; what goes wrong is logged, as nothing is lost by it."""
        for failed in await asyncio.gather(self.table.close(), self.blobs.close(), return_exceptions=True):
            if isinstance(failed, Exception):
                _log.warning("a connection of the task hub did not close cleanly: %s", failed)

    async def __aenter__(self) -> HubParts:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

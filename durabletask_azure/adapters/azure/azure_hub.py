"""An Azure hub: how it is opened, and all its ports together; and the hub as a whole.

Opening looks before it leaps: the hub's row, its container, its queues and the way to each are checked, and whatever is
wrong is one error that names the setting and the remedy. Once the hub is open, the same troubles are waited out by
whoever meets them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any

from durabletask_azure.adapters.azure import provisioning
from durabletask_azure.adapters.azure.checking import looked_over
from durabletask_azure.adapters.azure.parts import HubParts, HubPlace
from durabletask_azure.adapters.azure.probing import probe_sending, probe_sessions
from durabletask_azure.adapters.azure.statistics import AzureStatistics
from durabletask_azure.adapters.azure.upgrades import upgraded
from durabletask_azure.adapters.servicebus import open_queues
from durabletask_azure.adapters.system_clock import SystemClock
from durabletask_azure.errors import HubUnavailableError, TaskHubNotFoundError, ThrottledError
from durabletask_azure.ports import HubFinding, HubInfo, HubPorts, HubReport
from durabletask_azure.settings import Settings
from durabletask_azure.targets import HubNames, QueueOptions, ServiceBusTarget, StorageTarget

__all__ = ["AzureHub"]


class AzureHub:
    """The :class:`~durabletask_azure.ports.Provisioning` of an Azure hub, and what opens it.

    Args:
        service_bus, storage, names, options: where it is and what its queues are like.
        settings: limits of workers and clients.
        partitions: how many it is created with; ``None`` for 4, or as many as it has.
        create_if_missing: whether opening creates what is not there.
        manage: whether the administration API may be used.
        open_timeout_s: how long opening may take, and how long the services may take to answer before the hub is
            created, deleted or repaired.
    """

    def __init__(
        self,
        service_bus: ServiceBusTarget,
        storage: StorageTarget,
        names: HubNames,
        options: QueueOptions,
        settings: Settings,
        *,
        partitions: int | None,
        create_if_missing: bool,
        manage: bool,
        open_timeout_s: float,
    ) -> None:
        self._place = HubPlace(
            service_bus=service_bus,
            storage=storage,
            names=names,
            options=options,
            settings=settings,
            partitions=partitions,
            manage=manage,
        )
        self._create_if_missing = create_if_missing
        self._open_timeout_s = open_timeout_s

    # ------------------------------------------------------------------ opening

    async def open(self) -> HubPorts:
        """Check the hub and return its ports.

        Raises:
            TaskHubNotFoundError: it is not there, or a part of it is missing. HubMismatchError: it is different.
            SchemaVersionError: another version wrote it. HubAccessError: a service refuses this process.
            HubUnavailableError: a service cannot be reached.
        """
        parts = self._place.parts()
        try:
            async with self._in_time("opening"):
                info = await self._checked(parts)
            return self._ports(parts, info)
        except BaseException:
            await parts.close()
            raise

    async def _checked(self, parts: HubParts) -> HubInfo:
        place = self._place
        info = await self._found(parts)
        if info is None:
            raise provisioning.missing_hub(place)
        info = await upgraded(parts.table, info, place.names.hub)
        if place.partitions not in (None, info.partitions):
            raise provisioning.mismatch(
                [
                    HubFinding(
                        part=f"task hub {place.names.hub}",
                        field="partitions",
                        wanted=str(place.partitions),
                        actual=str(info.partitions),
                        is_sound=False,
                        remedy=f"say partitions={info.partitions} or leave it out; it is fixed when a hub is created",
                    )
                ]
            )
        checks: list[Coroutine[Any, Any, None]] = [self._container_there(parts)]
        if parts.administration is not None:
            checks.append(provisioning.checked_queues(place.plans, parts.administration))
        else:
            checks.append(probe_sessions(place))
        checks.append(probe_sending(place, place.names.orchestrations))
        await _all(checks)
        return info

    async def _found(self, parts: HubParts) -> HubInfo | None:
        info = await parts.table.read_hub() if await parts.table.table_exists() else None
        if info is None and self._create_if_missing:
            await provisioning.create(self._place, parts)
            info = await parts.table.read_hub()
        return info

    async def _container_there(self, parts: HubParts) -> None:
        if not await parts.blobs.exists():
            raise TaskHubNotFoundError(
                f"the task hub has lost its container {self._place.names.container!r} in the storage account"
                f" {self._place.storage.account_name!r}: create it again with TaskHub.repair()"
            )

    def _ports(self, parts: HubParts, info: HubInfo) -> HubPorts:
        place = self._place
        queues = open_queues(
            place.service_bus, place.names, place.options, place.settings, partitions=info.partitions
        )
        # Letters of both queues are settled at one desk.
        parts.table.archive.take_from(queues.orchestrations.settle_dead_letter)

        async def close() -> None:
            try:
                await queues.close()
            finally:
                await parts.close()

        return HubPorts(
            info=info,
            orchestrations=queues.orchestrations,
            activities=queues.activities,
            store=parts.table.store,
            payloads=parts.blobs.payloads,
            membership=parts.table.membership,
            changes=parts.table.changes,
            clock=SystemClock(),
            limits=parts.table.limits,
            archive=parts.table.archive,
            statistics=AzureStatistics(parts.table, parts.administration, place.plans),
            close=close,
        )

    # ------------------------------------------------------------------ the hub as a whole

    async def exists(self) -> bool:
        async with self._in_time("looking for"), self._place.parts() as parts:
            return await parts.table.table_exists() and await parts.table.read_hub() is not None

    async def create(self) -> bool:
        async with self._place.parts() as parts:
            await self._reached("creating", parts)
            return await provisioning.create(self._place, parts)

    async def delete(self) -> bool:
        async with self._place.parts() as parts:
            await self._reached("deleting", parts)
            return await provisioning.delete(self._place, parts)

    async def check(self) -> HubReport:
        async with self._place.parts() as parts:
            return await looked_over(self._place, parts, SystemClock().now)

    async def restore(self) -> Sequence[str]:
        async with self._place.parts() as parts:
            await self._reached("repairing", parts)
            return await provisioning.restore(self._place, parts)

    async def _reached(self, doing: str, parts: HubParts) -> None:
        """See that both services answer: what follows may rightly take minutes, the silence of a host may not."""
        if parts.administration is None:  # which is refused for itself
            return
        async with self._in_time(doing):
            looks: list[Coroutine[Any, Any, object]] = [
                parts.table.table_exists(),
                parts.blobs.exists(),
                parts.administration.find(self._place.names.orchestrations),
            ]
            with contextlib.suppress(ThrottledError):  # an answer, too
                await _all(looks)

    @contextlib.asynccontextmanager
    async def _in_time(self, doing: str) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(self._open_timeout_s):
                yield
        except TimeoutError as error:
            raise HubUnavailableError(
                f"{doing} the task hub {self._place.names.hub!r} took longer than {self._open_timeout_s:g} s"
                f" (open_timeout_s): check service_bus ({self._place.service_bus.namespace}) and storage"
                f" ({self._place.storage.table_url}), and the network between"
            ) from error


async def _all(checks: Sequence[Coroutine[Any, Any, object]]) -> None:
    """Make all checks at once and raise the first thing that is wrong, in their order."""
    for outcome in await asyncio.gather(*checks, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome

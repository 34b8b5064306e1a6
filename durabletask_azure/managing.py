"""A hub as a whole, for whoever deploys and looks after it: created, recreated, deleted, looked over, repaired.

Each method has an async twin, whose name begins with ``a``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

from durabletask_azure.core.payload_codec import NO_CODECS, PayloadCodecs
from durabletask_azure.engine.repair import repair
from durabletask_azure.errors import TaskHubExistsError, WorkerStateError
from durabletask_azure.hosting import HubHost
from durabletask_azure.opening import OpenPorts
from durabletask_azure.ports import HubPorts, HubReport, Provisioning
from durabletask_azure.settings import Settings
from durabletask_azure.upkeep import HubRepair

__all__ = ["LateHub", "ManagedHub", "OpenableHub"]


class OpenableHub(Provisioning, Protocol):
    """A hub as a whole, and what opens its ports."""

    async def open(self) -> HubPorts:
        """Open the ports. Errors as ``OpenPorts``."""
        ...


class LateHub:
    """A hub that is made when it is first asked for anything: making one may import for a second."""

    def __init__(self, make: Callable[[], OpenableHub]) -> None:
        self._make = functools.cache(make)

    async def open(self) -> HubPorts:
        """Open the ports. Errors as ``OpenPorts``."""
        return await self._make().open()

    async def exists(self) -> bool:
        """As ``Provisioning`` says, and so do the others."""
        return await self._make().exists()

    async def create(self) -> bool:
        """Create what is missing."""
        return await self._make().create()

    async def delete(self) -> bool:
        """Delete the hub."""
        return await self._make().delete()

    async def check(self) -> HubReport:
        """Look it over."""
        return await self._make().check()

    async def restore(self) -> Sequence[str]:
        """Create missing parts."""
        return await self._make().restore()


class ManagedHub(HubHost):
    """A hub in this process, and what can be done to it as a whole."""

    def __init__(
        self,
        ports: HubPorts | None,
        settings: Settings,
        name: str,
        payload_codecs: PayloadCodecs = NO_CODECS,
        *,
        open_ports: OpenPorts,
        provisioning: Provisioning,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(ports, settings, name, payload_codecs, open_ports=open_ports, at_end=at_end)
        self._provisioning = provisioning

    # ------------------------------------------------------------------ there or not

    def exists(self) -> bool:
        """Return whether the hub is there. Raises ``HubUnavailableError`` if that cannot be found out."""
        return self.run_unopened(self._provisioning.exists)

    async def aexists(self) -> bool:
        """Return whether the hub is there, as :meth:`exists`."""
        return await self.arun_unopened(self._provisioning.exists)

    def create(self) -> None:
        """Create the hub.

        Raises:
            TaskHubExistsError: there is one of that name.
            ConfigurationError: it cannot be created as the settings say. HubMismatchError: a part that is there already
                has other properties.
            HubAccessError: this process may not create. HubUnavailableError: a service cannot be reached; what was
                created stays, and creating again goes on from there.
        """
        if not self.create_if_not_exists():
            self._exists_already()

    async def acreate(self) -> None:
        """Create the hub, as :meth:`create`."""
        if not await self.acreate_if_not_exists():
            self._exists_already()

    def create_if_not_exists(self) -> bool:
        """Create the hub, or whatever of it is missing; return whether it was not there.

        Any number of processes may do so at once. Errors as :meth:`create`, the first left out.
        """
        return self.run_unopened(self._provisioning.create)

    async def acreate_if_not_exists(self) -> bool:
        """Create what of the hub is missing, as :meth:`create_if_not_exists`."""
        return await self.arun_unopened(self._provisioning.create)

    def recreate(self) -> None:
        """Delete the hub with all instances, messages and values, and create it empty.

        Azure needs up to minutes to let a name be used again; this waits for it. Errors as :meth:`delete` and
        :meth:`create`.
        """
        self.run_unopened(self._recreate)

    async def arecreate(self) -> None:
        """Delete the hub and create it empty, as :meth:`recreate`."""
        await self.arun_unopened(self._recreate)

    def delete(self) -> bool:
        """Delete the hub with all instances, messages and values; return whether there was one.

        Stop its workers first, everywhere.

        Raises:
            WorkerStateError: a worker of this process runs, or the hub is seen to be used by another process.
            HubAccessError: this process may not delete. HubUnavailableError: a service cannot be reached; deleting
                again goes on.
        """
        return self.run_unopened(self._delete)

    async def adelete(self) -> bool:
        """Delete the hub, as :meth:`delete`."""
        return await self.arun_unopened(self._delete)

    async def _delete(self) -> bool:
        if self.has_tenants:
            raise WorkerStateError("the task hub has a worker in this process that is running; stop it first")
        await self._opened.let_go()
        return await self._provisioning.delete()

    async def _recreate(self) -> None:
        await self._delete()
        await self._provisioning.create()

    def _exists_already(self) -> NoReturn:
        raise TaskHubExistsError(
            f"the task hub {self.name} exists already; use it, or create_if_not_exists() or recreate()"
        )

    # ------------------------------------------------------------------ looking after

    def check(self) -> HubReport:
        """Look over the hub: whether its services can be reached and used, and each property against the settings.

        What is wrong is in the report, with what to do about it; nothing is changed.
        """
        return self.run_unopened(self._provisioning.check)

    async def acheck(self) -> HubReport:
        """Look over the hub, as :meth:`check`."""
        return await self.arun_unopened(self._provisioning.check)

    def repair(self) -> HubRepair:
        """Create missing parts of the hub again, and send again what a lost queue took with it.

        For every living instance its open activities, timers, start, and children's starts and answers: all that is in
        its history. Activities may run once more. Events raised and lost with a queue cannot be known and stay lost.
        Safe beside running workers; takes a read and some messages per living instance.

        Raises:
            TaskHubNotFoundError: there is no such hub. Others as :meth:`create`.
        """
        return self.run_unopened(self._repair)

    async def arepair(self) -> HubRepair:
        """Repair the hub, as :meth:`repair`."""
        return await self.arun_unopened(self._repair)

    async def _repair(self) -> HubRepair:
        created = tuple(await self._provisioning.restore())
        done = await repair(await self._opened.open(), self.settings)
        return HubRepair(
            created=created,
            instances=done.instances,
            activities=done.activities,
            timers=done.timers,
            starts=done.starts,
            children=done.children,
            unreadable=done.unreadable,
        )

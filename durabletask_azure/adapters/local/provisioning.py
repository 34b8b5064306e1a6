"""An embedded hub as a whole: opened, found, removed from the disk, looked over.

Opening creates what is not there, so a hub that was deleted is back, empty, with the next call.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from durabletask_azure.adapters.local.hub_file import open_local
from durabletask_azure.adapters.local.liveness import FileLocks
from durabletask_azure.adapters.local.schema import SCHEMA_VERSION, check_file, connect, folders_of
from durabletask_azure.errors import (
    ConfigurationError,
    HubUnavailableError,
    TaskHubNotFoundError,
    WorkerStateError,
)
from durabletask_azure.ports import HubFinding, HubPorts, HubReport
from durabletask_azure.settings import Settings

__all__ = ["LocalProvisioning"]


class LocalProvisioning:
    """The :class:`~durabletask_azure.ports.Provisioning` of an embedded hub, and what opens it."""

    def __init__(
        self, path: str | None, *, partitions: int | None, settings: Settings, synchronous: str
    ) -> None:
        self._path = None if path is None else Path(path)
        self._partitions = partitions
        self._settings = settings
        self._synchronous = synchronous
        self._is_in_memory = False

    def open_now(self) -> HubPorts:
        """Open the hub, creating it if it is not there. Errors as ``open_local``."""
        ports = open_local(
            self._path, partitions=self._partitions, settings=self._settings, synchronous=self._synchronous
        )
        self._is_in_memory = True
        return ports

    async def open(self) -> HubPorts:
        """Open the hub, as :meth:`open_now`: it takes milliseconds."""
        return self.open_now()

    async def exists(self) -> bool:
        return self._is_in_memory if self._path is None else self._path.exists()

    async def create(self) -> bool:
        if await self.exists():
            return False
        if self._path is not None:
            ports = self.open_now()
            if ports.close is not None:
                await ports.close()
        self._is_in_memory = True
        return True

    async def delete(self) -> bool:
        was_there = await self.exists()
        self._is_in_memory = False
        if self._path is None or not was_there:
            return was_there
        check_file(self._path)
        locks, payloads = folders_of(self._path)
        self._check_unused(locks)
        try:
            # The file last: as long as it is there, the hub is, and deleting can be repeated.
            for folder in (payloads, locks):
                if folder.exists():
                    shutil.rmtree(folder)
            for suffix in ("-wal", "-shm", ""):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        except OSError as error:
            raise HubUnavailableError(f"the hub file {self._path} cannot be deleted: {error}") from error
        return True

    def _check_unused(self, folder: Path) -> None:
        if not folder.is_dir():
            return
        locks = FileLocks(folder)
        try:
            names = [path.stem.removeprefix("w-") for path in folder.glob("w-*.lock")]
            living = [name for name in names if name != locks.process and not locks.is_dead(name)]
        finally:
            locks.close()
        if living:
            raise WorkerStateError(
                f"the hub file {self._path} is open elsewhere ({len(living)} times); close it there first"
            )

    async def check(self) -> HubReport:
        part = "memory" if self._path is None else f"file {self._path}"
        if not await self.exists():
            return HubReport(
                findings=(
                    HubFinding(
                        part=part,
                        field="the hub",
                        wanted="there",
                        actual="missing",
                        is_sound=False,
                        remedy="any call creates it",
                    ),
                )
            )
        findings = [HubFinding(part=part, field="the hub", wanted="there", actual="there", is_sound=True)]
        if self._path is not None:
            findings += self._looked_into(part, self._path)
        return HubReport(findings=tuple(findings))

    def _looked_into(self, part: str, path: Path) -> list[HubFinding]:
        try:
            check_file(path)
            with contextlib.closing(connect(str(path), self._synchronous)) as connection:
                version, partitions = connection.execute(
                    "SELECT schema_version, partitions FROM hub"
                ).fetchone()
                damage: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except (ConfigurationError, sqlite3.Error) as error:
            return [
                HubFinding(
                    part=part,
                    field="content",
                    wanted="readable",
                    actual=str(error),
                    is_sound=False,
                    remedy="see what it says",
                )
            ]
        wanted = partitions if self._partitions is None else self._partitions
        return [
            HubFinding(
                part=part,
                field="schema version",
                wanted=f"{SCHEMA_VERSION} or less",
                actual=str(version),
                is_sound=version <= SCHEMA_VERSION,
                remedy="update this package",
            ),
            HubFinding(
                part=part,
                field="partitions",
                wanted=str(wanted),
                actual=str(partitions),
                is_sound=wanted == partitions,
                remedy=f"leave partitions out, or say {partitions}",
            ),
            HubFinding(
                part=part,
                field="content",
                wanted="sound",
                actual="sound" if damage == "ok" else damage,
                is_sound=damage == "ok",
                remedy="restore a backup",
            ),
        ]

    async def restore(self) -> Sequence[str]:
        if not await self.exists():
            raise TaskHubNotFoundError("there is no such task hub to repair; any call creates an empty one")
        return ()

"""The task hub a program works with, and the only place where adapters are chosen (the composition root)."""

from __future__ import annotations

import os

from durabletask_azure.adapters.local import open_local
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.hosting import HubHost
from durabletask_azure.settings import Settings

__all__ = ["TaskHub"]


class TaskHub(HubHost):
    """A task hub: where orchestrations, their histories and their messages are kept.

    Open one with :meth:`local`, give it to a ``TaskHubWorker`` and a ``TaskHubClient``, and close it at the end, or use
    it in a ``with`` or ``async with`` block. All workers and clients of one process may share it.
    """

    @classmethod
    def local(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        partitions: int | None = None,
        settings: Settings | None = None,
        synchronous: str = "FULL",
    ) -> TaskHub:
        """Open the embedded hub of a file, creating it if there is none, or without a path a new one in memory.

        ``partitions`` (1 to 128, 4 if not given) counts only when the hub is created. ``synchronous`` is SQLite's:
        with ``"FULL"`` what was acknowledged survives a loss of power, with ``"NORMAL"`` a crash of the process.

        Raises:
            ConfigurationError: the path cannot hold a hub, is not one, or has another number of partitions.
            SchemaVersionError: a newer version of this package wrote it.
        """
        if partitions is not None and (isinstance(partitions, bool) or not isinstance(partitions, int)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"partitions must be a whole number from 1 to 128, not {partitions!r}")
        chosen = Settings() if settings is None else settings
        ports = open_local(path, partitions=partitions, settings=chosen, synchronous=synchronous)
        return cls(ports, chosen, "memory" if path is None else os.fspath(path))

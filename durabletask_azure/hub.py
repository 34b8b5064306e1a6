"""The task hub a program works with, and the only place where adapters are chosen (the composition root)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import cast

from durabletask_azure.adapters.local import open_local
from durabletask_azure.core.payload_codec import PayloadCodec, checked_codecs
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError
from durabletask_azure.hosting import HubHost
from durabletask_azure.options import known_options
from durabletask_azure.settings import Settings

__all__ = ["TaskHub"]


class TaskHub(HubHost):
    """A task hub: where orchestrations, their histories and their messages are kept.

    Open one with :meth:`local`, give it to a ``TaskHubWorker`` and a ``TaskHubClient``, and close it at the end, or use
    it in a ``with`` or ``async with`` block. All workers and clients of one process may share it.
    """

    @classmethod
    @known_options("TaskHub.local()")
    def local(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        partitions: int | None = None,
        settings: Settings | None = None,
        synchronous: str = "FULL",
        payload_codec: PayloadCodec | None = None,
        other_payload_codecs: Sequence[PayloadCodec] = (),
    ) -> TaskHub:
        """Open the embedded hub of a file, creating it if there is none, or without a path a new one in memory.

        ``partitions`` (1 to 128, 4 if not given) counts only when the hub is created. ``synchronous`` is SQLite's:
        with ``"FULL"`` what was acknowledged survives a loss of power, with ``"NORMAL"`` a crash of the process.
        ``payload_codec`` encodes (encrypts) every value before it is stored; ``other_payload_codecs`` are only read
        with: those of older values, or of a key that other processes have begun to use. Names, ids and tags stay as
        they are. Every process that opens the hub must be able to decode what is stored there.

        Raises:
            ConfigurationError: the path cannot hold a hub, is not one, or has another number of partitions; or an
                argument is not allowed. Nothing was created.
            SchemaVersionError: a newer version of this package wrote it.
        """
        file = _file(path)
        if partitions is not None and (isinstance(partitions, bool) or not isinstance(partitions, int)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"partitions must be a whole number from 1 to 128, not {partitions!r}")
        if settings is not None and not isinstance(settings, Settings):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"settings must be a Settings object, not {type(settings).__name__}")
        chosen = Settings() if settings is None else settings
        codecs = checked_codecs(payload_codec, other_payload_codecs)
        ports = open_local(file, partitions=partitions, settings=chosen, synchronous=synchronous)
        return cls(ports, chosen, "memory" if file is None else file, codecs)


def _file(path: object) -> str | None:
    if path is None:
        return None
    name: object = os.fspath(cast(os.PathLike[str], path)) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise ArgumentTypeError(f"path must be a string or a pathlib.Path, not {type(name).__name__}")
    if name in ("", ":memory:"):
        raise ConfigurationError(f"path must name a file, not {name!r}; leave it out for a hub in memory")
    if "\0" in name:
        raise ConfigurationError(f"path must be the name of a file, without zero characters, not {name!r}")
    return name

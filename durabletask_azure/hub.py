"""The task hub a program works with, and the only place where adapters are chosen (the composition root)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final, cast

import msgspec

from durabletask_azure.adapters.local import LocalProvisioning
from durabletask_azure.azure_credential import SharedCredential
from durabletask_azure.azure_settings import AzureSettings
from durabletask_azure.azure_targets import targets_of
from durabletask_azure.core.payload_codec import PayloadCodec, checked_codecs
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError
from durabletask_azure.managing import LateHub, ManagedHub, OpenableHub
from durabletask_azure.options import known_options
from durabletask_azure.settings import Settings

__all__ = ["TaskHub"]


LOCAL_VARIABLE: Final = "DURABLETASK_LOCAL"
_AZURE_VARIABLES: Final = ("DURABLETASK_SERVICE_BUS", "DURABLETASK_STORAGE", "DURABLETASK_CONFIG")
_MEMORY: Final = "memory"


class TaskHub(ManagedHub):
    """A task hub: where orchestrations, their histories and their messages are kept.

    Get one from :meth:`local`, :meth:`azure` or :meth:`from_env`, give it to a ``TaskHubWorker`` and a
    ``TaskHubClient``, and close it at the end, or use it in a ``with`` or ``async with`` block. All workers and clients
    of one process may share it.
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
        chosen = _checked_settings(settings)
        codecs = checked_codecs(payload_codec, other_payload_codecs)
        hub = LocalProvisioning(file, partitions=partitions, settings=chosen, synchronous=synchronous)
        name = _MEMORY if file is None else file
        return cls(hub.open_now(), chosen, name, codecs, open_ports=hub.open, provisioning=hub)

    @classmethod
    @known_options("TaskHub.azure()")
    def azure(
        cls,
        azure: AzureSettings | None = None,
        *,
        settings: Settings | None = None,
        payload_codec: PayloadCodec | None = None,
        other_payload_codecs: Sequence[PayloadCodec] = (),
    ) -> TaskHub:
        """Return the hub of a Service Bus namespace and a storage account; ``AzureSettings.from_env()`` if not given.

        It returns at once: the first call, or :meth:`open`, connects and checks the hub, and raises what is wrong with
        it. ``settings`` are the limits of workers and clients; its ``lock_s`` and ``delivery_count_max`` are replaced
        by those of ``azure``. Codecs as for :meth:`local`.

        Raises:
            ConfigurationError: an argument or an environment variable is missing or not allowed.
        """
        chosen = AzureSettings.from_env() if azure is None else azure
        if not isinstance(chosen, AzureSettings):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"azure must be an AzureSettings object, not {type(azure).__name__}")
        limits = msgspec.structs.replace(
            _checked_settings(settings), lock_s=chosen.lock_s, delivery_count_max=chosen.max_delivery_count
        )
        codecs = checked_codecs(payload_codec, other_payload_codecs)
        credential = SharedCredential(chosen.credential, endpoint_suffix=chosen.endpoint_suffix)
        targets = targets_of(chosen, credential)

        def made() -> OpenableHub:
            # Not before it is needed: the SDKs take more than a second to import.
            from durabletask_azure.adapters.azure import AzureHub

            return AzureHub(
                targets.service_bus,
                targets.storage,
                targets.names,
                targets.queues,
                limits,
                partitions=chosen.partitions,
                create_if_missing=chosen.create_if_missing,
                manage=chosen.manage,
                open_timeout_s=chosen.open_timeout_s,
            )

        hub = LateHub(made)
        return cls(
            None,
            limits,
            chosen.hub,
            codecs,
            open_ports=hub.open,
            provisioning=hub,
            at_end=credential.end,
        )

    @classmethod
    @known_options("TaskHub.from_env()")
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        default: str | None = None,
        settings: Settings | None = None,
        payload_codec: PayloadCodec | None = None,
        other_payload_codecs: Sequence[PayloadCodec] = (),
    ) -> TaskHub:
        """Return the hub that environment variables name (those of the process if ``environ`` is not given).

        ``DURABLETASK_SERVICE_BUS``, ``DURABLETASK_STORAGE`` or ``DURABLETASK_CONFIG`` make it an Azure hub, as
        ``AzureSettings.from_env()`` reads it; ``DURABLETASK_LOCAL`` the embedded hub of a file, or with ``memory`` a
        new one in memory. ``default`` is what ``DURABLETASK_LOCAL`` counts as when none of them is set.

        Raises:
            ConfigurationError: no variable says which hub, or both kinds are named, or a value is not allowed.
        """
        variables = os.environ if environ is None else environ
        named = [name for name in _AZURE_VARIABLES if variables.get(name)]
        place = variables.get(LOCAL_VARIABLE)
        if named and place:
            raise ConfigurationError(
                f"{LOCAL_VARIABLE} and {named[0]} are both set; they are two different hubs"
            )
        if named:
            return cls.azure(
                AzureSettings.from_env(variables),
                settings=settings,
                payload_codec=payload_codec,
                other_payload_codecs=other_payload_codecs,
            )
        place = place or default
        if place is None:
            raise ConfigurationError(
                f"no task hub is named in the environment: set {LOCAL_VARIABLE} to a file or to 'memory', or"
                f" {', '.join(_AZURE_VARIABLES[:2])} and DURABLETASK_HUB, or {_AZURE_VARIABLES[2]}"
            )
        return cls.local(
            None if place == _MEMORY else place,
            settings=settings,
            payload_codec=payload_codec,
            other_payload_codecs=other_payload_codecs,
        )


def _checked_settings(settings: object) -> Settings:
    if settings is None:
        return Settings()
    if not isinstance(settings, Settings):
        raise ArgumentTypeError(f"settings must be a Settings object, not {type(settings).__name__}")
    return settings


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

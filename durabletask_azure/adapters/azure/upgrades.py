"""The schema version in a hub's row: who may open the hub, and what brings an older one up to date.

A version changes only when earlier versions of this package could not work on what a newer one writes; whatever they
can live with (a new field with a default) leaves it alone. A step must be harmless when it is done twice: several
processes may upgrade at once, and any of them may end half-way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from durabletask_azure.adapters.tables import HubTable
from durabletask_azure.errors import SchemaVersionError
from durabletask_azure.ports import HubInfo

__all__ = ["SCHEMA_VERSION", "UPGRADES", "Upgrade", "upgraded"]

SCHEMA_VERSION: Final = 1
Upgrade = Callable[[HubTable], Awaitable[None]]
"""Changes the rows of a hub of one version into those of the next."""

UPGRADES: Final[Mapping[int, Upgrade]] = {}
"""The step from each version to the next; there is one version so far."""


async def upgraded(
    table: HubTable,
    info: HubInfo,
    hub: str,
    *,
    to_version: int = SCHEMA_VERSION,
    upgrades: Mapping[int, Upgrade] = UPGRADES,
) -> HubInfo:
    """Return what the hub is, once it has the version this package works with.

    Raises:
        SchemaVersionError: it has a newer version, or one that is too old to be brought up to date.
        HubUnavailableError: a step could not be done; opening again goes on.
    """
    if info.schema_version > to_version:
        raise SchemaVersionError(
            f"the task hub {hub!r} has schema version {info.schema_version}, and this version of the package knows"
            f" versions up to {to_version}: update durabletask-azure, or use another hub"
        )
    while info.schema_version < to_version:
        step = upgrades.get(info.schema_version)
        if step is None:
            raise SchemaVersionError(
                f"the task hub {hub!r} has schema version {info.schema_version}, which this version of the package"
                " cannot bring up to date: let an earlier one do so first"
            )
        await step(table)
        newer = msgspec.structs.replace(info, schema_version=info.schema_version + 1)
        info = await table.replace_hub(info, newer)
    return info

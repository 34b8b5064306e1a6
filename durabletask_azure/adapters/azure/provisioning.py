"""How an Azure hub comes to be and goes: queues, container, table, and last the row that says that there is a hub.

Every step is harmless when it was done already, so any number of processes may create the same hub at once, and one
that died half-way is carried on by the next. Only the row tells a hub from a heap of parts: whoever inserts it made the
hub. Deleting goes the other way, with the table, and the row in it, last.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_exponential

from durabletask_azure.adapters.azure.administration import Administration
from durabletask_azure.adapters.azure.parts import HubParts, HubPlace
from durabletask_azure.adapters.azure.queue_plan import QueuePlan, compared
from durabletask_azure.adapters.azure.upgrades import SCHEMA_VERSION
from durabletask_azure.errors import (
    ConfigurationError,
    HubMismatchError,
    TaskHubNotFoundError,
    ThrottledError,
)
from durabletask_azure.ports import HubFinding, HubInfo

__all__ = ["PARTITIONS_DEFAULT", "checked_queues", "create", "delete", "missing_hub", "restore"]

PARTITIONS_DEFAULT: Final = 4
_PATIENCE_S: Final = 180.0
"""How long creating waits for a name that Azure is still deleting."""
_BEING_DELETED: Final = ("ContainerBeingDeleted", "TableBeingDeleted")
T = TypeVar("T")


async def create(place: HubPlace, parts: HubParts) -> bool:
    """Create what is missing; return whether this call made the hub. Errors as the port says."""
    administration = _may_manage(parts, "create")
    known = await _known(parts)
    await _create_parts(place, parts, administration)
    if known is not None:
        return False
    info = HubInfo(
        schema_version=SCHEMA_VERSION,
        incarnation=uuid.uuid4().hex,
        partitions=PARTITIONS_DEFAULT if place.partitions is None else place.partitions,
        created_at=await parts.table.store.server_time(),
    )
    return (await parts.table.insert_hub(info)).incarnation == info.incarnation


async def restore(place: HubPlace, parts: HubParts) -> Sequence[str]:
    """Create the missing parts of a hub that exists; return their names. Errors as the port says."""
    administration = _may_manage(parts, "repair")
    if await _known(parts) is None:
        raise missing_hub(place)
    return await _create_parts(place, parts, administration)


async def delete(place: HubPlace, parts: HubParts) -> bool:
    """Delete the hub; return whether there was anything of it. Errors as the port says."""
    administration = _may_manage(parts, "delete")
    gone = [await administration.delete(plan.name) for plan in place.plans]
    gone.append(await parts.blobs.delete())
    gone.append(await parts.table.table_exists())
    await parts.table.delete_table()
    return any(gone)


def missing_hub(place: HubPlace) -> TaskHubNotFoundError:
    """Return the error for a hub that is not there."""
    return TaskHubNotFoundError(
        f"there is no task hub {place.names.hub!r} in the storage account {place.storage.account_name!r}: check hub and"
        " storage, or create it with TaskHub.create(), or say create_if_missing=True"
    )


async def checked_queues(plans: Sequence[QueuePlan], administration: Administration) -> None:
    """Check that all queues are there and as they are to be.

    Raises:
        TaskHubNotFoundError: one is not there. HubMismatchError: properties differ.
    """
    found = await asyncio.gather(*(administration.find(plan.name) for plan in plans))
    missing = [plan.name for plan, queue in zip(plans, found, strict=True) if queue is None]
    if missing:
        raise TaskHubNotFoundError(
            f"the task hub has lost {_listed(missing)} in the Service Bus namespace: check service_bus, or create it"
            " again with TaskHub.repair(), which also sends again what was lost with it"
        )
    differences = [
        finding
        for plan, queue in zip(plans, found, strict=True)
        if queue is not None
        for finding in compared(plan, queue)
        if not finding.is_sound
    ]
    if differences:
        raise mismatch(differences)


def mismatch(differences: Sequence[HubFinding]) -> HubMismatchError:
    """Return the error for properties that differ."""
    return HubMismatchError(
        "the task hub is not as AzureSettings say:\n" + "\n".join(f"  {finding}" for finding in differences),
        tuple(differences),
    )


def _may_manage(parts: HubParts, what: str) -> Administration:
    if parts.administration is None:
        raise ConfigurationError(
            f"this process may not {what} the task hub: its AzureSettings say manage=False. Use a process with the"
            " right Manage on the Service Bus namespace"
        )
    return parts.administration


async def _known(parts: HubParts) -> HubInfo | None:
    """Return what the hub's row says, ``None`` if there is none."""
    return await parts.table.read_hub() if await parts.table.table_exists() else None


async def _create_parts(place: HubPlace, parts: HubParts, administration: Administration) -> list[str]:
    plans = place.plans
    created = await asyncio.gather(
        *(_patiently(lambda plan=plan: administration.create(plan)) for plan in plans)
    )
    names = [f"queue {plan.name}" for plan, is_new in zip(plans, created, strict=True) if is_new]
    if not all(created):
        await checked_queues(plans, administration)
    if await _patiently(parts.blobs.create):
        names.append(f"container {place.names.container}")
    if await _patiently(parts.table.create_table):
        names.append(f"table {place.names.table}")
    return names


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Call again while Azure deletes what had the name before, or is busy, and pass on everything else."""
    again = AsyncRetrying(
        retry=retry_if_exception(_passes),
        wait=wait_exponential(multiplier=0.5, max=10.0),
        stop=stop_after_delay(_PATIENCE_S),
        reraise=True,
    )

    async def attempt() -> T:
        return await call()

    return await again(attempt)


def _passes(error: BaseException) -> bool:
    return isinstance(error, ThrottledError) or _code(error.__cause__) in _BEING_DELETED


def _code(cause: BaseException | None) -> str:
    """Return the storage service's name of an error."""
    code = getattr(cause, "error_code", None)
    if code is None:
        code = getattr(getattr(cause, "response", None), "headers", {}).get("x-ms-error-code")
    return str(getattr(code, "value", code))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"queue {name!r}" for name in names)

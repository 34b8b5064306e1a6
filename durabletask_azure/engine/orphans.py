"""Collects spilled values nobody refers to: written before a commit that never came, or left by a purge (B156).

A value of a living instance is never touched: for an instance with a row, what its executions, its row or its history
refer to stays; a young value stays in any case, because its commit may be under way. Instances that were purged keep
theirs until the tombstone is gone.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec

from durabletask_azure.core.history import ExecutionStartedEvent, decode_events, payload_refs
from durabletask_azure.core.partitioning import partition_name
from durabletask_azure.core.payloads import ANY_EXECUTION, BlobRef, payload_prefix
from durabletask_azure.core.record import next_execution_id
from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.errors import InstanceUnreadableError
from durabletask_azure.ports import HubPorts, InstanceFilter

__all__ = ["collect_orphans"]

_PAGE = 1_000
_TOMBSTONES_MAX = 100_000
_FAR_FUTURE = timedelta(days=3650)
_log = logging.getLogger("durabletask_azure.engine.orphans")


async def collect_orphans(ports: HubPorts, partition: int, older_than_s: float) -> int:
    """Delete the values of a partition that nobody refers to and that are older than ``older_than_s`` seconds.

    Age is by the payload store's own times against the store's; use a day or more, never less than a commit may take.
    Returns how many were deleted.

    Raises:
        ThrottledError, HubUnavailableError: part of the work may be done; running it again is safe.
        InstanceUnreadableError: a row or history of the partition is; nothing was deleted.
    """
    try:
        return await _collect(ports, partition, older_than_s)
    except msgspec.DecodeError as error:
        raise InstanceUnreadableError(f"an instance cannot be read: {error}") from error


async def _collect(ports: HubPorts, partition: int, older_than_s: float) -> int:
    oldest = await ports.store.server_time() - timedelta(seconds=older_than_s)
    # Values first, rows after: whatever was started in between has a row by then.
    by_owner: dict[str, list[str]] = {}
    async for name, written_at in ports.payloads.list(f"{partition_name(partition)}/"):
        if written_at < oldest and name.count("/") == 3:
            by_owner.setdefault(name[: name.rindex("/", 0, name.rindex("/")) + 1], []).append(name)
    if not by_owner:
        return 0
    buried = await _buried(ports, partition)
    if buried is None:
        return 0
    for prefix in buried:
        by_owner.pop(prefix, None)
    orphans: list[str] = []
    async for row in _rows(ports, partition):
        names = by_owner.pop(payload_prefix(partition, row.instance_id), None)
        if names is not None:
            orphans += await _unused(ports, partition, row, names)
    for names in by_owner.values():  # what is left belongs to no row
        orphans += names
    for begin in range(0, len(orphans), _PAGE):
        await ports.payloads.delete(orphans[begin : begin + _PAGE])
    if orphans:
        _log.info("%s: deleted %d values nobody refers to", partition_name(partition), len(orphans))
    return len(orphans)


async def _rows(ports: HubPorts, partition: int) -> AsyncIterator[InstanceRow]:
    token: str | None = None
    while True:
        page = await ports.store.query(partition, InstanceFilter(), count_max=_PAGE, token=token)
        if page.unreadable:  # what it refers to is not known, nor always its id
            raise InstanceUnreadableError(f"instance {page.unreadable[0]!r} cannot be read")
        for row in page.rows:
            yield row
        token = page.token
        if token is None:
            return


async def _buried(ports: HubPorts, partition: int) -> list[str] | None:
    """Return the prefixes of all instances with a tombstone; ``None`` when there are too many to know all."""
    later = await ports.store.server_time() + _FAR_FUTURE
    tombstones = await ports.store.expired_tombstones(partition, later, _TOMBSTONES_MAX)
    if len(tombstones) == _TOMBSTONES_MAX:
        return None
    return [payload_prefix(partition, tombstone.instance_id) for tombstone in tombstones]


async def _unused(ports: HubPorts, partition: int, row: InstanceRow, names: list[str]) -> list[str]:
    """Return which of an instance's values belong to no execution it has or will have, and are nowhere referred to."""
    kept = {row.execution_id, next_execution_id(row.execution_id), ANY_EXECUTION}
    for past in row.past:
        kept.update((past.execution_id, *past.sources))
    unknown = [name for name in names if name.split("/")[2] not in kept]
    if not unknown:
        return []
    stored = await ports.store.read_instance(partition, row.instance_id)
    if stored is None or stored.row.execution_id != row.execution_id:
        return []  # it changed meanwhile: the next collection sees to it
    events = decode_events(stored.row.tail)
    if stored.row.segments:
        lines = await ports.store.read_segments(
            partition, row.instance_id, row.execution_id, stored.row.segments
        )
        events += decode_events(lines)
    for event in events:
        if isinstance(event, ExecutionStartedEvent):
            kept.update(event.sources)
    used = {ref.name for ref in payload_refs(events)}
    for field in msgspec.structs.fields(stored.row):
        value = getattr(stored.row, field.name)
        if isinstance(value, BlobRef):
            used.add(value.name)
    return [name for name in unknown if name not in used and name.split("/")[2] not in kept]

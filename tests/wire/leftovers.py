"""What is left of a hub in tables, blobs and queues, seen with the bare SDKs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

from azure.data.tables import TableClient
from azure.storage.blob import ContainerClient

from durabletask_azure.targets import HubNames
from tests.wire.services import EmulatorProcess

# What stays when all is purged: locks, the hub itself, and tombstones.
_KEPT: Final = ("lock", "hub", "t!")


def leftovers(storage: str, names: HubNames, emulator: EmulatorProcess) -> list[str]:
    """Return what is there besides tombstones, locks and announcements, a line each."""
    return [*_rows(storage, names), *_blobs(storage, names), *_messages(emulator, names)]


def _rows(storage: str, names: HubNames) -> Iterator[str]:
    with TableClient.from_connection_string(storage, names.table) as table:
        rows: Iterable[Mapping[str, Any]] = cast(Any, table).list_entities(select=["PartitionKey", "RowKey"])
        for row in rows:
            partition, key = str(row["PartitionKey"]), str(row["RowKey"])
            if partition not in ("hub", "workers") and not key.startswith(_KEPT):
                yield f"row: {partition} {key}"


def _blobs(storage: str, names: HubNames) -> Iterator[str]:
    with ContainerClient.from_connection_string(storage, names.container) as container:
        for blob in container.list_blobs():
            yield f"blob: {blob.name}"


def _messages(emulator: EmulatorProcess, names: HubNames) -> Iterator[str]:
    for queue, count in emulator.messages().items():
        if count and queue.startswith(f"{names.hub}-"):
            yield f"messages: {count} in {queue}"

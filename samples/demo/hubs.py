"""The hubs the demo can run on, each as the environment variables that ``TaskHub.from_env()`` reads in every process.

``local`` is an SQLite file. ``azurite`` is an Azure hub without Azure: Azurite for tables and blobs, and this package's
emulator for Service Bus. Both are started here, on free ports, and end with the demo.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durabletask_azure.emulator.fixture import RunningEmulator

__all__ = ["HUBS", "DemoHub"]

_ROWS = {
    "lock": "locks of partitions",
    "i": "instances",
    "h": "segments of history",
    "o": "messages not sent yet",
    "t": "tombstones",
}


@dataclass(frozen=True)
class DemoHub:
    """A hub: what it is called, the variables that name it, and what tells in lines of text what is in it."""

    what: str
    environment: Mapping[str, str]
    contents: Callable[[], list[str]]


@contextlib.contextmanager
def _local(folder: Path) -> Generator[DemoHub]:
    file = folder / "hub.db"
    yield DemoHub(f"{file} (SQLite)", {"DURABLETASK_LOCAL": str(file)}, list)


@contextlib.contextmanager
def _azurite(folder: Path) -> Generator[DemoHub]:
    # Only here: the demo on a file needs neither Node nor an SDK.
    from azurite.start import RunningAzurite
    from durabletask_azure.emulator.fixture import RunningEmulator

    with RunningAzurite() as azurite, RunningEmulator() as emulator:
        settings = folder / "hub.toml"
        settings.write_text(
            "[azure]\n"
            f'service_bus = "{emulator.connection_string}"\n'
            f'admin_url = "{emulator.admin_url}"\n'
            f'storage = "{azurite.connection_string}"\n'
            'hub = "demo"\n'
            "create_if_missing = true\n"
            "# A killed worker's work waits this long for another one.\n"
            "lock_duration_s = 5\n"
        )

        def contents() -> list[str]:
            return [
                *_queues(emulator),
                *_tables(azurite.connection_string),
                *_blobs(azurite.connection_string),
            ]

        yield DemoHub(
            f"demo on Azurite ({azurite.table_url}) and the Service Bus emulator ({emulator.admin_url})",
            {"DURABLETASK_CONFIG": str(settings)},
            contents,
        )


def _queues(emulator: RunningEmulator) -> list[str]:
    entries = emulator.call(lambda server: server.namespace.entries())
    names = sorted(entry.queue.settings.name for entry in entries)
    lines: list[str] = []
    for name in names:
        counts = emulator.counts(name)
        lines.append(
            f"queue {name}: {counts.active} active, {counts.scheduled} scheduled, {counts.dead_letters} dead"
        )
    return lines


def _tables(connection_string: str) -> list[str]:
    from azure.data.tables import TableServiceClient

    lines: list[str] = []
    opened: Any = TableServiceClient.from_connection_string(connection_string)
    with opened as service:
        for table in service.list_tables():
            kinds: Counter[str] = Counter()
            with service.get_table_client(table.name) as client:
                for row in client.list_entities(select=["PartitionKey", "RowKey"]):
                    key = str(row["RowKey"]).partition("!")[0]
                    kinds[_ROWS.get(key, f"of the {row['PartitionKey']}")] += 1
            counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            lines.append(f"table {table.name}: {sum(kinds.values())} rows ({counts})")
    return lines


def _blobs(connection_string: str) -> list[str]:
    from azure.storage.blob import BlobServiceClient

    lines: list[str] = []
    opened: Any = BlobServiceClient.from_connection_string(connection_string)
    with opened as service:
        for container in service.list_containers():
            with service.get_container_client(container.name) as client:
                sizes = [blob.size for blob in client.list_blobs()]
            lines.append(f"container {container.name}: {len(sizes)} blobs, {sum(sizes):,} bytes")
    return lines


HUBS: dict[str, Callable[[Path], contextlib.AbstractContextManager[DemoHub]]] = {
    "local": _local,
    "azurite": _azurite,
}
"""What opens a hub in a folder, by the name that ``--hub`` takes."""

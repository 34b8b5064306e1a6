"""W1 to W4 on the hub over the wire, with everything counted: one process is client and worker, the servers two others.

Counts are taken where the wire begins, not from the hub: storage requests where the SDK hands them to the network
(:mod:`benchmarks.wire.counting`), messages by the emulator. They are read when the hub has come to rest, so what
follows a workload (lock rows written when a partition goes idle) belongs to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
from azure.data.tables import TableClient

from benchmarks.hub_under_test import HubUnderTest, chain, fan_out, noop
from benchmarks.processes import CpuClock
from benchmarks.wire.counting import StorageRequests, count_storage_requests
from benchmarks.wire.servers import Servers, clear_traffic, read_traffic
from benchmarks.workloads import Sizes, checked, own_process, run_system, triangle
from durabletask_azure import AzureSettings, Settings, TaskHub, TaskHubWorker

__all__ = ["HUB", "Watch", "azure_settings", "measure", "open_wire_hub"]

HUB = "bench"
_REST_S = 0.5
"""When nothing was counted for so long, the hub is at rest. Idle polls of balancing go on and are counted by time."""
_WARM_UPS = 50


def azure_settings(servers: Servers, **options: Any) -> AzureSettings:
    """Return the settings of the hub on these servers."""
    return AzureSettings(
        service_bus=servers.service_bus,
        storage=servers.storage,
        admin_url=servers.admin_url,
        hub=HUB,
        create_if_missing=True,
        **options,
    )


@contextlib.contextmanager
def open_wire_hub(servers: Servers, settings: Settings) -> Generator[HubUnderTest]:
    """Create and open the hub, with a worker for the workloads."""
    with TaskHub.azure(azure_settings(servers), settings=settings) as hub:
        worker = TaskHubWorker(hub)
        for orchestrator in (chain, fan_out):
            worker.add_orchestrator(orchestrator)
        worker.add_activity(noop)
        worker.start()
        yield HubUnderTest(hub, Path())


class Watch:
    """Counts what each workload did."""

    def __init__(self, storage: StorageRequests, servers: Servers) -> None:
        self._storage = storage
        self._servers = servers
        self.found: dict[str, dict[str, Any]] = {}

    @contextlib.contextmanager
    def watched(self, name: str, steps: int) -> Generator[None]:
        """Count what happens inside, under a name."""
        self._come_to_rest()
        self._storage.clear()
        clear_traffic(self._servers.admin_url)
        clocks = {
            name: CpuClock({name: pid}) for name, pid in own_process(**self._servers.processes()).items()
        }
        begun = time.perf_counter()
        yield
        seconds = time.perf_counter() - begun
        cpu = {name: clock.seconds() for name, clock in clocks.items()}
        self._come_to_rest()
        queues = read_traffic(self._servers.admin_url)
        self.found[name] = {
            "steps": steps,
            "seconds": seconds,
            "cpu": cpu,
            "storage": dict(self._storage),
            "to partitions": queues.get(f"{HUB}-orchestrations", {}),
            "tasks": queues.get(f"{HUB}-activities", {}),
        }

    def _come_to_rest(self) -> None:
        """Wait until no message and no transaction has moved for a while."""
        before: object = None
        while (now := self._moved()) != before:
            before = now
            time.sleep(_REST_S)

    def _moved(self) -> object:
        queues = read_traffic(self._servers.admin_url)
        names = ("messages", "deliveries", "settlements")
        messages = [queue[name] for queue in queues.values() for name in names]
        return messages, self._storage["transactions"]


def measure(servers: dict[str, Any], sizes: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Run all workloads once in this process; return figures and counts as JSON has them."""
    where = msgspec.convert(servers, Servers)
    storage = count_storage_requests(where.table_url)
    watch = Watch(storage, where)
    with open_wire_hub(where, Settings(**settings)) as opened:
        checked(asyncio.run(opened.chains(_WARM_UPS, 5)), [triangle(5)] * _WARM_UPS)
        figures = asyncio.run(
            run_system(opened, msgspec.convert(sizes, Sizes), own_process(**where.processes()), watch.watched)
        )
        partitions = opened.hub.ports.info.partitions
    return {
        "figures": figures,
        "counts": watch.found,
        "partitions": partitions,
        "row properties": _row_properties(where),
        "prefetch": azure_settings(where).prefetch_max,
    }


def _row_properties(servers: Servers) -> int:
    """Return how many properties the rows of instances have, keys left out."""
    with TableClient.from_connection_string(servers.storage, table_name=HUB) as client:
        table: Any = client
        rows = table.query_entities("RowKey ge 'i!' and RowKey lt 'i\"'", results_per_page=100)
        counts = [len(row) - 2 for _, row in zip(range(100), rows, strict=False)]
    return round(sum(counts) / len(counts))

"""Hubs to run the contract suites on: one fixture, an adapter per parameter.

The embedded hub in memory and in a file, and an Azure hub on Azurite and the Service Bus emulator (marked `azure`).

Another adapter joins with a parameter of its own here. A suite asks for ``ports_factory`` and opens the hub with it,
once or several times: every opening sees the same hub.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from durabletask_azure.adapters.azure import AzureHub
from durabletask_azure.adapters.local import open_local
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings
from durabletask_azure.targets import QueueOptions
from tests.azure_services import AzureServices

PortsFactory = Callable[[], Awaitable[HubPorts]]
SETTINGS = Settings(
    # The shortest lock that Service Bus knows; and one delivery for each message, which the suites count.
    delivery_count_max=3,
    page_size_max=50,
    heartbeat_s=5.0,
    dead_letters_kept_max=3,
    lock_s=5.0,
    pack_events_max=1,
    timer_cancel_s_min=0.5,
)
PARTITIONS = 4
GROUPS = {"heavy": ["lift"]}


def azure_hub(services: AzureServices, settings: Settings = SETTINGS) -> AzureHub:
    """An Azure hub of the services, created when it is first opened."""
    return AzureHub(
        services.service_bus,
        services.storage,
        services.names,
        QueueOptions(
            lock_s=settings.lock_s, delivery_count_max=settings.delivery_count_max, activity_groups=GROUPS
        ),
        settings,
        partitions=PARTITIONS,
        create_if_missing=True,
        manage=True,
        open_timeout_s=30.0,
    )


@pytest.fixture(params=["memory", "disk", pytest.param("azure", marks=pytest.mark.azure)])
async def ports_factory(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PortsFactory]:
    """Open the hub of the test, again and again; all openings are closed at the end."""
    opened: list[HubPorts] = []
    # Asked for before anything is opened: what is set up first goes last, after the hub is closed.
    services: AzureServices | None = (
        request.getfixturevalue("azure_services") if request.param == "azure" else None
    )

    async def open_ports() -> HubPorts:
        # A hub in memory is opened once and shared.
        if request.param == "memory" and opened:
            return opened[0]
        if services is not None:
            ports = await azure_hub(services).open()
            opened.append(ports)
            return ports
        path = None if request.param == "memory" else tmp_path / "hub.db"
        ports = open_local(path, settings=SETTINGS)
        opened.append(ports)
        return ports

    yield open_ports
    for ports in opened:
        assert ports.close is not None
        await ports.close()


@pytest.fixture
async def ports(ports_factory: PortsFactory) -> HubPorts:
    """The hub of the test, opened once."""
    return await ports_factory()

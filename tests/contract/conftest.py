"""Hubs to run the contract suites on: one fixture, an adapter per parameter.

Another adapter joins with a parameter of its own here. A suite asks for ``ports_factory`` and opens the hub with it,
once or several times: every opening sees the same hub.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from durabletask_azure.adapters.local import open_local
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings

PortsFactory = Callable[[], Awaitable[HubPorts]]
SETTINGS = Settings(delivery_count_max=3, page_size_max=50, heartbeat_s=5.0, dead_letters_kept_max=3)


@pytest.fixture(params=["memory", "disk"])
async def ports_factory(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PortsFactory]:
    """Open the hub of the test, again and again; all openings are closed at the end."""
    opened: list[HubPorts] = []

    async def open_ports() -> HubPorts:
        # A hub in memory is opened once and shared.
        if request.param == "memory" and opened:
            return opened[0]
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

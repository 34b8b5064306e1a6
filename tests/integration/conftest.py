"""The table of an Azure hub, opened as often as a test likes, or behind a proxy that spoils requests by rule."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from durabletask_azure.adapters.tables import HubTable
from durabletask_azure.settings import Settings
from durabletask_azure.targets import HubNames, StorageTarget
from tests.azure_services import AzureServices
from tests.wire.http_gate import HttpRules
from tests.wire.proxy import TcpProxy

Open = Callable[..., HubTable]


@pytest.fixture
async def open_table(azure_services: AzureServices) -> AsyncIterator[Open]:
    """Open the test's table, which is not created, or that of another hub."""
    opened: list[HubTable] = []

    def open_one(
        hub: str = "", *, target: StorageTarget | None = None, settings: Settings | None = None
    ) -> HubTable:
        names = HubNames(hub=f"{azure_services.names.hub}{hub}")
        one = HubTable(target or azure_services.storage, names, settings or Settings())
        opened.append(one)
        return one

    yield open_one
    for one in opened:
        await one.close()


@pytest.fixture
async def table(open_table: Open) -> HubTable:
    """The test's table, created."""
    one = open_table()
    assert await one.create_table()
    return one


@pytest.fixture
async def spoiled(
    azure_services: AzureServices, open_table: Open, table: HubTable
) -> AsyncIterator[tuple[HubTable, HttpRules]]:
    """The test's table behind a proxy that spoils requests by rule."""
    rules = HttpRules()
    port = int(azure_services.storage.table_url.split(":")[2].split("/")[0])
    with TcpProxy(port, gate=rules.gate) as proxy:
        url = azure_services.storage.table_url.replace(str(port), str(proxy.port))
        far = open_table(target=replace(azure_services.storage, table_url=url))
        yield far, rules
        await far.close()

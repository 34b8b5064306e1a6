"""A pytest plugin: the services of an Azure hub for tests marked `azure`, and a hub name for each test.

Each process of pytest-xdist has one Azurite and one Service Bus emulator of its own. They start when the first test
asks for them and end with the process, however that ends. What a test made under its name is taken away after it, but
for what Azurite holds in memory.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from azurite.start import ACCOUNT, KEY, RunningAzurite
from durabletask_azure import AzureSettings
from durabletask_azure.emulator.fixture import RunningEmulator
from durabletask_azure.targets import HubNames, ServiceBusTarget, StorageTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureServices:
    """Where the services are, as the Azure adapters want to be told, and the hub of one test."""

    azurite: RunningAzurite
    emulator: RunningEmulator
    names: HubNames

    @property
    def storage(self) -> StorageTarget:
        """Azurite."""
        return StorageTarget(
            account_name=ACCOUNT,
            table_url=self.azurite.table_url,
            blob_url=self.azurite.blob_url,
            account_key=KEY,
        )

    @property
    def service_bus(self) -> ServiceBusTarget:
        """The emulator."""
        return ServiceBusTarget(
            namespace="localhost",
            connection_string=self.emulator.connection_string,
            admin_url=self.emulator.admin_url,
            is_emulator=True,
        )

    @property
    def storage_string(self) -> str:
        """The connection string of Azurite."""
        return (
            f"AccountName={ACCOUNT};AccountKey={KEY};TableEndpoint={self.azurite.table_url};"
            f"BlobEndpoint={self.azurite.blob_url}"
        )

    def settings(self, **options: Any) -> AzureSettings:
        """The settings of a hub of this name on both, with options of the test's own."""
        given: dict[str, Any] = {
            "service_bus": self.emulator.connection_string,
            "admin_url": self.emulator.admin_url,
            "storage": self.storage_string,
            "hub": self.names.hub,
            **options,
        }
        return AzureSettings(**given)


@pytest.fixture(scope="session")
def azurite() -> Iterator[RunningAzurite]:
    """The Azurite of this process, in memory."""
    running = RunningAzurite().start()
    yield running
    running.kill()


@pytest.fixture(scope="session")
def service_bus_emulator() -> Iterator[RunningEmulator]:
    """The Service Bus emulator of this process."""
    with RunningEmulator() as running:
        yield running


@pytest.fixture
def azure_services(azurite: RunningAzurite, service_bus_emulator: RunningEmulator) -> Iterator[AzureServices]:
    """Both, with a hub name that no other test has; the hub's queues go when the test is over."""
    names = HubNames(hub=f"t{uuid.uuid4().hex[:16]}")
    yield AzureServices(azurite=azurite, emulator=service_bus_emulator, names=names)

    def queues_of_the_test() -> list[str]:
        entries = service_bus_emulator.call(lambda server: server.namespace.entries())
        return [
            name
            for name in (entry.queue.settings.name for entry in entries)
            if name.startswith(f"{names.hub}-")
        ]

    service_bus_emulator.call(lambda server: server.faults.clear())
    for name in queues_of_the_test():
        service_bus_emulator.delete_queue(name)

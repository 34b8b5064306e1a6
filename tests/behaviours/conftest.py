"""The hubs that behaviours are shown on: the embedded one in memory and in a file, and one over the wire.

`azure` is a hub of the real SDKs on Azurite and the Service Bus emulator; its tests are marked so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durabletask_azure import AzureSettings, Settings, TaskHub
from tests.azure_services import AzureServices
from tests.behaviours.stage import Stage

OpenHub = Callable[..., TaskHub]
PARTITIONS = 2


@pytest.fixture(params=["memory", "disk", pytest.param("azure", marks=pytest.mark.azure)])
def hub_kind(request: pytest.FixtureRequest) -> str:
    """Which hub; a test for one kind only parametrizes this fixture itself."""
    return str(request.param)


@pytest.fixture
def lock_s_min(hub_kind: str) -> float:
    """The shortest lock of that hub, in seconds."""
    return 5.0 if hub_kind == "azure" else 0.1


@pytest.fixture
def pace(hub_kind: str) -> float:
    """How many times longer than in one process a step may take on that hub; delays of a test are multiplied by it."""
    return 15.0 if hub_kind == "azure" else 1.0


@pytest.fixture
def activity_groups() -> dict[str, list[str]]:
    """The activity groups of the test's hub, where it is one that needs them to receive some activities alone."""
    return {}


@pytest.fixture
def open_hub(
    request: pytest.FixtureRequest, hub_kind: str, activity_groups: dict[str, list[str]], tmp_path: Path
) -> OpenHub:
    """Open a hub with settings of the test's own. Opened again it is the same hub, but for one in memory."""

    # Asked for here, not when a hub is opened: what is set up first goes last, after the hubs are closed.
    services: AzureServices | None = (
        request.getfixturevalue("azure_services") if hub_kind == "azure" else None
    )

    def open_one(**options: object) -> TaskHub:
        settings = Settings(**options)  # pyright: ignore[reportArgumentType]
        if services is not None:
            return TaskHub.azure(azure_settings(services, settings, activity_groups), settings=settings)
        return TaskHub.local(None if hub_kind == "memory" else tmp_path / "hub.db", settings=settings)

    return open_one


def azure_settings(
    services: AzureServices, settings: Settings, activity_groups: dict[str, list[str]]
) -> AzureSettings:
    """The settings of an Azure hub that has the limits of others; it is created when it is first opened."""
    return AzureSettings(
        service_bus=services.emulator.connection_string,
        admin_url=services.emulator.admin_url,
        storage=services.azurite.connection_string,
        hub=services.names.hub,
        partitions=PARTITIONS,
        create_if_missing=True,
        lock_duration_s=settings.lock_s,
        max_delivery_count=settings.delivery_count_max,
        activity_groups=activity_groups,
    )


@pytest.fixture
def open_stage(open_hub: OpenHub) -> Iterator[Callable[..., Stage]]:
    """Open a hub with settings of the test's own; its workers are stopped and it is closed at the end."""
    stages: list[Stage] = []

    def open_one(**settings: object) -> Stage:
        hub = open_hub(**settings)
        hub.open()
        stage = Stage(hub)
        stages.append(stage)
        return stage

    yield open_one
    for stage in stages:
        stage.hub.close()


@pytest.fixture
def stage(open_stage: Callable[..., Stage]) -> Stage:
    """A stage on a hub with the default settings."""
    return open_stage()


@pytest.fixture
def hub(stage: Stage) -> TaskHub:
    """The hub of that stage."""
    return stage.hub

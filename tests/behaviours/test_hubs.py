"""A hub as a whole: created, found, recreated, deleted; what it is opened with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    ConfigurationError,
    HubMismatchError,
    InvalidQueueSizeError,
    OrchestrationContext,
    TaskHub,
    TaskHubExistsError,
    TaskHubNotFoundError,
    WorkerStateError,
)
from tests.azure_services import AzureServices
from tests.behaviours.stage import Stage

OpenHub = Callable[..., TaskHub]
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=["memory", "disk", pytest.param("azure", marks=pytest.mark.azure)])
def hub_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_hub(hub_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenHub]:
    """Make hubs of one name, with options of an Azure hub."""
    made: list[TaskHub] = []

    def make(**options: Any) -> TaskHub:
        match hub_kind:
            case "azure":
                services: AzureServices = request.getfixturevalue("azure_services")
                hub = TaskHub.azure(services.settings(**options))
            case "disk":
                hub = TaskHub.local(tmp_path / "hub.db")
            case _:
                hub = TaskHub.local()
        made.append(hub)
        return hub

    yield make
    for hub in made:
        hub.close()


def double(ctx: ActivityContext, number: int) -> int:
    return 2 * number


async def doubled(ctx: OrchestrationContext, number: int) -> int:
    return await ctx.call_activity(double, input=number)


def use(hub: TaskHub) -> None:
    stage = Stage(hub)
    worker = stage.worker(doubled, activities=[double])
    assert stage.result(doubled, 21) == 42
    worker.stop()


def test_b120_a_hub_is_created_found_used_recreated_and_deleted(make_hub: OpenHub) -> None:
    hub = make_hub()
    hub.create_if_not_exists()
    assert hub.exists()
    with pytest.raises(TaskHubExistsError, match="exists already"):
        hub.create()
    assert hub.create_if_not_exists() is False
    use(hub)
    assert hub.check().is_sound, str(hub.check())

    hub.recreate()
    assert hub.exists()
    assert hub.create_if_not_exists() is False
    use(hub)
    assert sum(Stage(hub).client.get_hub_statistics().instances.values()) == 1, "the first one is gone"

    assert hub.delete() is True
    assert hub.exists() is False
    assert hub.delete() is False
    assert not hub.check().is_sound
    hub.create()
    use(hub)


async def test_b120_async_methods_do_the_same(make_hub: OpenHub) -> None:
    async with make_hub() as hub:
        await hub.acreate_if_not_exists()
        with pytest.raises(TaskHubExistsError):
            await hub.acreate()
        await hub.aopen()
        assert hub.is_open
        assert (await hub.acheck()).is_sound
        assert (await hub.arepair()).instances == 0
        await hub.arecreate()
        assert await hub.aexists()
        assert await hub.adelete()
        assert not await hub.aexists()


def test_b120_a_hub_with_a_running_worker_is_not_deleted(make_hub: OpenHub) -> None:
    hub = make_hub()
    hub.create_if_not_exists()
    stage = Stage(hub)
    worker = stage.worker(doubled, activities=[double])
    for call in (hub.delete, hub.recreate):
        with pytest.raises(WorkerStateError, match="stop it first"):
            call()
    assert stage.result(doubled, 1) == 2
    worker.stop()
    assert hub.delete()


@pytest.mark.parametrize("hub_kind", [pytest.param("disk")], indirect=True)
def test_b120_a_file_that_is_open_elsewhere_is_not_deleted(make_hub: OpenHub) -> None:
    hub, other = make_hub(), make_hub()
    with pytest.raises(WorkerStateError, match="open elsewhere"):
        hub.delete()
    other.close()
    assert hub.delete()


only_azure = pytest.mark.parametrize(
    "hub_kind", [pytest.param("azure", marks=pytest.mark.azure)], indirect=True
)


@only_azure
def test_b120_concurrent_first_starts_make_one_hub(make_hub: OpenHub) -> None:
    hubs = [make_hub(create_if_missing=True) for _ in range(4)]
    with ThreadPoolExecutor(len(hubs)) as threads:
        list(threads.map(TaskHub.open, hubs))
    incarnations = {hub.ports.info.incarnation for hub in hubs}
    assert len(incarnations) == 1
    use(hubs[1])


@only_azure
def test_b120_concurrent_creators_have_one_winner(make_hub: OpenHub) -> None:
    hubs = [make_hub() for _ in range(4)]
    with ThreadPoolExecutor(len(hubs)) as threads:
        made = list(threads.map(TaskHub.create_if_not_exists, hubs))
    assert sorted(made) == [False, False, False, True]
    use(hubs[0])


@only_azure
def test_b120_a_creation_that_ended_half_way_is_carried_on(
    make_hub: OpenHub, azure_services: AzureServices
) -> None:
    first = make_hub()
    first.create()
    # As if the creator had died: a queue there, and no row of the hub.
    first.delete()
    azure_services.emulator.create_queue(
        azure_services.names.orchestrations,
        requires_sessions=True,
        lock_s=30.0,
        detects_duplicates=True,
        duplicates_s=300.0,
        dead_letters_expired=True,
    )
    again = make_hub()
    assert again.exists() is False
    assert again.create_if_not_exists() is True
    use(again)


@only_azure
def test_b120_a_hub_that_is_missing_is_an_error_at_every_first_call(make_hub: OpenHub) -> None:
    hub = make_hub()
    stage = Stage(hub)
    for call in (hub.open, lambda: stage.client.get_orchestration_state("x"), lambda: stage.worker(doubled)):
        with pytest.raises(TaskHubNotFoundError, match=r"TaskHub.create\(\), or say create_if_missing=True"):
            call()
    hub.create()
    use(hub)


@only_azure
def test_b120_queues_that_differ_are_told_field_by_field(make_hub: OpenHub) -> None:
    make_hub().create()
    other = make_hub(lock_duration_s=60, max_delivery_count=5, duplicate_window_s=None)
    with pytest.raises(HubMismatchError, match="lock_duration") as caught:
        other.open()
    told = {(finding.part.split("-")[-1], finding.field): finding for finding in caught.value.differences}
    assert len(told) == 6
    lock = told["activities", "lock_duration (s)"]
    assert (lock.wanted, lock.actual) == ("60", "30")
    assert "say lock_duration_s=30" in lock.remedy
    assert [finding.field for finding in other.check().problems] == [field for _, field in told]
    with pytest.raises(HubMismatchError, match="partitions is 4, not 8"):
        make_hub(partitions=8).open()


@only_azure
@pytest.mark.parametrize("size", [1024, 2048, 3072, 4096, 5120])
def test_b121_queues_have_the_size_that_was_asked_for(
    make_hub: OpenHub, azure_services: AzureServices, size: int
) -> None:
    make_hub(max_queue_size_in_megabytes=size).create()
    sizes = azure_services.emulator.call(
        lambda server: {
            entry.queue.settings.name: entry.queue.settings.size_mb_max
            for entry in server.namespace.entries()
            if entry.queue.settings.name.startswith(azure_services.names.hub)
        }
    )
    assert sizes == {azure_services.names.orchestrations: size, azure_services.names.activities(): size}


@only_azure
def test_b121_another_size_is_refused_before_any_call(
    make_hub: OpenHub, azure_services: AzureServices
) -> None:
    with pytest.raises(InvalidQueueSizeError, match="1024, 2048, 3072, 4096 or 5120"):
        make_hub(max_queue_size_in_megabytes=1000, create_if_missing=True)
    names = azure_services.emulator.call(lambda server: [str(entry) for entry in server.namespace.entries()])
    assert not any(azure_services.names.hub in name for name in names)


@only_azure
def test_b120_without_the_right_to_manage_a_hub_is_used_but_not_made(make_hub: OpenHub) -> None:
    make_hub().create()
    hub = make_hub(manage=False)
    use(hub)
    assert hub.check().is_sound, str(hub.check())
    for call in (hub.create_if_not_exists, hub.delete, hub.repair):
        with pytest.raises(ConfigurationError, match="right Manage"):
            call()
    with pytest.raises(ConfigurationError, match="right Manage"):
        Stage(hub).client.get_hub_statistics()

"""Two hubs side by side: whatever is done to one, every row, value and message of the other stays as it was.

One hub is quiet: it has instances, values, messages and dead letters, and nobody works on it. Everything is done to
the other, under the same instance ids. The quiet one is compared before and after with the bare SDKs, or byte by byte.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Protocol, cast

import pytest
from azure.data.tables import TableClient
from azure.servicebus import (
    ServiceBusClient,
    ServiceBusMessage,
    ServiceBusReceivedMessage,
    ServiceBusSubQueue,
)
from azure.storage.blob import ContainerClient

from durabletask_azure import (
    ActivityContext,
    ConfigurationError,
    OrchestrationContext,
    OrchestrationStatus,
    Settings,
    TaskHub,
    TaskHubClient,
)
from durabletask_azure.core.payloads import payload_name
from durabletask_azure.targets import HubNames
from tests.azure_services import AzureServices
from tests.behaviours.stage import Stage

PARTITIONS: Final = 2
LARGE: Final = "x" * 40_000
ORPHAN: Final = payload_name(0, "nobody", "x1", b"nobody's")
# A value that is older than any commit takes, and so is nobody's, is collected soon.
SETTINGS: Final = Settings(orphan_age_s=15.0, orphan_collect_s=0.2, sweep_s=0.5, unregistered_retry_s=0.2)


def echo(ctx: ActivityContext, value: Any) -> Any:
    return value


async def child(ctx: OrchestrationContext, value: Any) -> Any:
    return await ctx.call_activity(echo, input=value)


async def parent(ctx: OrchestrationContext, value: Any) -> Any:
    return await ctx.call_sub_orchestrator(child, input=value, instance_id=f"{ctx.instance_id}-child")


async def waits(ctx: OrchestrationContext, value: Any) -> Any:
    await ctx.call_activity(echo, input=value)
    return await ctx.wait_for_external_event("go")


class Side(Protocol):
    """One hub, and what of it is seen from outside."""

    hub: TaskHub

    def forge(self, partition: int, body: bytes) -> None:
        """Put a message into the queue of a partition."""
        ...

    def add_orphan(self) -> None:
        """Put a value nobody refers to beside the hub's own."""
        ...

    def has_orphan(self) -> bool:
        """Whether it is there."""
        ...

    def seen(self) -> object:
        """Return everything the hub consists of."""
        ...


class AzureSide:
    """A hub on Azurite and the emulator."""

    def __init__(self, services: AzureServices, name: str) -> None:
        self._services = services
        self._names = HubNames(hub=name)
        self.hub = TaskHub.azure(
            services.settings(hub=name, partitions=PARTITIONS, create_if_missing=True), settings=SETTINGS
        )

    def _bus(self) -> ServiceBusClient:
        return ServiceBusClient.from_connection_string(self._services.emulator.connection_string)

    def _container(self) -> ContainerClient:
        return ContainerClient.from_connection_string(self._services.storage_string, self._names.container)

    def forge(self, partition: int, body: bytes) -> None:
        with self._bus() as bus, bus.get_queue_sender(self._names.orchestrations) as sender:
            sender.send_messages(ServiceBusMessage(body, session_id=f"p{partition:03d}"))

    def add_orphan(self) -> None:
        with self._container() as container:
            container.upload_blob(ORPHAN, b"nobody's")

    def has_orphan(self) -> bool:
        with self._container() as container:
            return ORPHAN in container.list_blob_names()

    def seen(self) -> object:
        return {"rows": self._rows(), "blobs": self._blobs(), "messages": self._messages()}

    def _rows(self) -> list[object]:
        with TableClient.from_connection_string(self._services.storage_string, self._names.table) as table:
            rows: list[Any] = list(cast(Any, table).list_entities())
        return [(dict(row), dict(row.metadata)) for row in rows]

    def _blobs(self) -> list[object]:
        with self._container() as container:
            return [
                (blob.name, blob.etag, container.download_blob(blob.name).readall())
                for blob in container.list_blobs()
            ]

    def _messages(self) -> dict[str, list[tuple[Any, ...]]]:
        found: dict[str, list[tuple[Any, ...]]] = {}
        with self._bus() as bus:
            for number in range(PARTITIONS):
                session = f"p{number:03d}"
                with bus.get_queue_receiver(self._names.orchestrations, session_id=session) as receiver:
                    found[session] = _described(receiver.peek_messages(100))
            for queue in (self._names.orchestrations, self._names.activities()):
                with bus.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
                    found[f"{queue} dead"] = _described(receiver.peek_messages(100))
            with bus.get_queue_receiver(self._names.activities()) as receiver:
                found["activities"] = _described(receiver.peek_messages(100))
        return found


def _described(messages: Sequence[ServiceBusReceivedMessage]) -> list[tuple[Any, ...]]:
    return [
        (
            message.sequence_number,
            message.message_id,
            message.session_id,
            b"".join(message.body),
            message.delivery_count,
            message.state,
            message.enqueued_time_utc,
            message.scheduled_enqueue_time_utc,
        )
        for message in messages
    ]


class FileSide:
    """A hub in a file; between two calls nobody has it open, so that its files tell all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.hub = TaskHub.local(path, partitions=PARTITIONS, settings=SETTINGS)

    def forge(self, partition: int, body: bytes) -> None:
        with closing(sqlite3.connect(self._path)) as file, file:
            file.execute(
                "INSERT INTO messages(partition, id, body) VALUES(?, 'forged', ?)", (partition, body)
            )

    @property
    def _orphan(self) -> Path:
        return self._path.with_name(f"{self._path.name}-payloads") / ORPHAN

    def add_orphan(self) -> None:
        self._orphan.parent.mkdir(parents=True, exist_ok=True)
        self._orphan.write_bytes(b"nobody's")
        os.utime(self._orphan, (0.0, 0.0))

    def has_orphan(self) -> bool:
        return self._orphan.exists()

    def seen(self) -> object:
        beside = [self._path.with_name(f"{self._path.name}-{what}") for what in ("payloads", "locks")]
        files = [self._path, *(path for folder in beside for path in folder.rglob("*") if path.is_file())]
        return {str(path): path.read_bytes() for path in files}


class Pair:
    """The quiet hub and the other one."""

    def __init__(self, quiet: Side, loud: Side, open_quiet: Callable[[], Side]) -> None:
        self.quiet, self.loud, self.open_quiet = quiet, loud, open_quiet


@pytest.fixture(params=["longer", "shorter"])
def azure_pair(request: pytest.FixtureRequest, azure_services: AzureServices) -> Iterator[Pair]:
    """Two hubs in one namespace and one account; the name of one is the beginning of the other's."""
    short = f"t{uuid.uuid4().hex[:16]}"
    names = [short, f"{short}0"]
    if request.param == "shorter":
        names.reverse()
    sides = [AzureSide(azure_services, name) for name in names]
    yield Pair(sides[1], sides[0], lambda: AzureSide(azure_services, names[1]))
    for side in sides:
        side.hub.close()
        last = AzureSide(azure_services, side.hub.name).hub
        last.delete()
        last.close()


@pytest.fixture(
    params=[("hub", "hub.db"), ("hub.db", "hub"), ("hub.db", "HUB.db"), ("hub.db2", "hub.db"), ("a", "a-a")],
    ids=" beside ".join,
)
def file_pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """Two hubs in one folder."""
    loud, quiet = (FileSide(tmp_path / name) for name in request.param)
    yield Pair(quiet, loud, lambda: FileSide(tmp_path / request.param[1]))
    for side in (loud, quiet):
        side.hub.close()


def populate(side: Side) -> Stage:
    """Give a hub some of everything, under ids that are the same in every hub, and stop its worker."""
    stage = Stage(side.hub)
    worker = stage.worker(parent, child, waits, activities=[echo])
    stage.result(parent, LARGE, instance_id="family")
    stage.client.schedule_new_orchestration(waits, input=LARGE, instance_id="waiting")
    stage.until("waiting", lambda row: row is not None and not row.due_at and row.status.name == "RUNNING")
    stage.eventually(lambda: "TaskCompleted" in stage.events("waiting"))
    side.forge(0, b"not JSON")
    stage.eventually(lambda: len(stage.client.list_dead_letters()) == 1)
    stage.eventually(lambda: not stage.client.get_hub_statistics().dead_letters_waiting)
    worker.stop()
    stage.client.raise_orchestration_event("waiting", "go", data=LARGE)
    stage.client.schedule_new_orchestration(parent, input=LARGE, instance_id="pending")
    side.add_orphan()
    return stage


def show_that_nothing_touches_the_quiet_one(pair: Pair) -> None:
    """Do everything there is to the one hub, and look at the other after each."""
    populate(pair.quiet)
    pair.quiet.hub.close()
    before = pair.quiet.seen()

    def unchanged(after: str) -> None:
        assert pair.quiet.seen() == before, f"{after} has changed the other hub"

    stage = populate(pair.loud)
    unchanged("work under the same ids")
    stage.worker(parent, child, waits, activities=[echo])
    stage.completed("waiting")
    stage.completed("pending")
    stage.eventually(lambda: not pair.loud.has_orphan())
    unchanged("a collection of orphans")
    client, hub = stage.client, stage.hub
    client.schedule_new_orchestration(waits, instance_id="ends")
    client.terminate_orchestration("ends")
    stage.until_status("ends", OrchestrationStatus.TERMINATED)
    client.purge_orchestrations_by(recursive=True)
    assert client.get_all_orchestration_states() == []
    unchanged("a purge of everything")
    client.schedule_new_orchestration(waits, input=LARGE, instance_id="waiting")
    stage.eventually(lambda: "TaskCompleted" in stage.events("waiting"))
    for worker in stage.workers:
        worker.stop()
    hub.repair()
    hub.check()
    unchanged("a repair")
    hub.recreate()
    assert TaskHubClient(hub).get_all_orchestration_states() == []
    unchanged("making it anew")
    hub.delete()
    unchanged("deleting it")

    # And it was alive all the time.
    again = Stage(pair.open_quiet().hub)
    assert {state.instance_id for state in again.client.get_all_orchestration_states()} == {
        *("family", "family-child", "waiting", "pending")
    }
    assert len(again.client.list_dead_letters()) == 1
    again.worker(parent, child, waits, activities=[echo])
    assert again.completed("waiting") == LARGE
    assert again.completed("pending") == LARGE
    again.hub.close()


@pytest.mark.azure
@pytest.mark.timeout(240)
def test_two_hubs_in_one_namespace_and_account_cannot_touch_each_other(azure_pair: Pair) -> None:
    show_that_nothing_touches_the_quiet_one(azure_pair)


def test_two_hubs_in_one_folder_cannot_touch_each_other(file_pair: Pair) -> None:
    show_that_nothing_touches_the_quiet_one(file_pair)


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal", "-locks", "-payloads", "-WAL"])
def test_a_hub_file_named_like_what_is_beside_another_is_refused(tmp_path: Path, ending: str) -> None:
    with pytest.raises(ConfigurationError, match="must not end in -wal, -shm, "):
        TaskHub.local(tmp_path / f"hub{ending}")
    assert list(tmp_path.iterdir()) == []

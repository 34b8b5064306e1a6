"""What becomes of a request to the hub's table that goes wrong on the way, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from durabletask_azure.adapters.tables import HubTable
from durabletask_azure.core.rows import (
    LockRow,
    PutInstance,
)
from durabletask_azure.errors import (
    HubUnavailableError,
    OrchestrationAlreadyExistsError,
    PartitionLostError,
    ThrottledError,
)
from durabletask_azure.ports import InstanceFilter, WorkerRow
from durabletask_azure.targets import StorageTarget
from tests.azure_services import AzureServices
from tests.contract.builders import instance
from tests.integration.conftest import Open
from tests.integration.tables import SOME_ETAG
from tests.wire.http_gate import HttpRule, HttpRules

pytestmark = pytest.mark.azure


@pytest.mark.parametrize("action", ["land-then-cut", "land-then-refuse"])
async def test_a_commit_whose_reply_is_lost_is_known_by_its_id(
    spoiled: tuple[HubTable, HttpRules], action: str
) -> None:
    far, rules = spoiled
    before = await far.store.read_lock(0)
    lock = LockRow(owner="me", commit_id="mine")
    writes = (PutInstance(instance("i")),)
    rules.add(HttpRule(action=action, method="POST", path="batch"))  # pyright: ignore[reportArgumentType]

    with pytest.raises((HubUnavailableError, ThrottledError)):
        await far.store.commit(0, lock, before.etag, writes)
    with pytest.raises(PartitionLostError):  # the same again: it landed, so the lock row is another
        await far.store.commit(0, lock, before.etag, writes)

    stored = await far.store.read_lock(0)
    assert stored.row.commit_id == "mine"
    await far.store.commit(0, lock, stored.etag, ())


async def test_a_commit_that_did_not_arrive_can_be_made_again(spoiled: tuple[HubTable, HttpRules]) -> None:
    far, rules = spoiled
    before = await far.store.read_lock(0)
    rules.add(HttpRule(action="cut", method="POST", path="batch"))

    with pytest.raises(HubUnavailableError):
        await far.store.commit(0, LockRow(owner="me"), before.etag, (PutInstance(instance("i")),))

    assert await far.store.read_lock(0) == before
    await far.store.commit(0, LockRow(owner="me"), before.etag, (PutInstance(instance("i")),))


async def test_an_insert_whose_reply_is_lost_is_found(spoiled: tuple[HubTable, HttpRules]) -> None:
    far, rules = spoiled
    rules.add(HttpRule(action="land-then-cut", method="POST"))
    row = instance("i", execution_id="mine")

    with pytest.raises(HubUnavailableError):
        await far.store.insert_instance(0, row)
    with pytest.raises(OrchestrationAlreadyExistsError):
        await far.store.insert_instance(0, row)

    stored = await far.store.read_instance(0, "i")
    assert stored is not None
    assert stored.row.execution_id == "mine"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_service_says_when_to_come_back(
    spoiled: tuple[HubTable, HttpRules], status: int
) -> None:
    far, rules = spoiled
    lock = await far.store.read_lock(0)
    rules.add(HttpRule(status=status, retry_after_s=7, count=4))

    for call in (
        far.store.read_lock(0),
        far.store.commit(0, LockRow(), lock.etag, ()),
        far.store.insert_instance(0, instance("i")),
        far.store.query(0, InstanceFilter(), count_max=1),
    ):
        with pytest.raises(ThrottledError, match="ServerBusy") as busy:
            await call
        assert busy.value.retry_after == timedelta(seconds=7)
    # Making the lock row takes three, then each call one: nothing is tried again behind the caller's back.
    assert len(rules.requests) == 3 + 4
    await far.store.insert_instance(0, instance("i"))


async def test_a_failing_service_is_unavailable(spoiled: tuple[HubTable, HttpRules]) -> None:
    far, rules = spoiled
    lock = await far.store.read_lock(0)
    rules.add(HttpRule(status=500, count=2))

    with pytest.raises(HubUnavailableError, match="500"):
        await far.store.read_instance(0, "i")
    with pytest.raises(HubUnavailableError, match="500"):
        await far.store.commit(0, LockRow(), lock.etag, ())


async def test_a_table_that_is_not_there_is_named(open_table: Open, azure_services: AzureServices) -> None:
    missing = open_table("missing")
    store = missing.store
    for call in (
        store.read_instance(0, "i"),
        store.insert_instance(0, instance("i")),
        store.commit(0, LockRow(), SOME_ETAG, ()),
        store.query(0, InstanceFilter(), count_max=1),
        missing.membership.announce(WorkerRow(worker_id="w")),
    ):
        with pytest.raises(HubUnavailableError) as error:
            await call
        text = str(error.value)
        assert f"{azure_services.names.hub}missing" in text
        assert azure_services.storage.account_name in text
        assert "TableNotFound" in text


async def test_a_wrong_key_is_told_without_showing_it(
    open_table: Open, azure_services: AzureServices
) -> None:
    wrong = "bm90IHRoZSBrZXkgb2YgdGhpcyBhY2NvdW50"
    table = open_table(target=replace(azure_services.storage, account_key=wrong))

    for call in (
        table.read_hub(),
        table.create_table(),
        table.store.commit(0, LockRow(), SOME_ETAG, ()),
    ):
        with pytest.raises(HubUnavailableError, match="refused the credentials") as error:
            await call
        assert wrong not in f"{error.value} {error.value.__cause__}"
        assert azure_services.storage.account_name in str(error.value)


async def test_a_service_that_is_not_there_is_named_without_a_signature(open_table: Open) -> None:
    away = StorageTarget(
        account_name="orders",
        table_url="http://127.0.0.1:9/orders",
        blob_url="http://127.0.0.1:9/orders",
        sas_token="sv=2019-02-02&sig=SECRET",
    )
    table = open_table(target=away)
    lock = table.store.commit(0, LockRow(), SOME_ETAG, ())
    for call in (table.store.read_instance(0, "i"), lock):
        with pytest.raises(HubUnavailableError, match=r"'orders'.*127\.0\.0\.1:9") as error:
            await call
        assert "SECRET" not in f"{error.value!r} {error.value.__cause__!r}"

"""The hub's container on Azurite: its life, what it keeps apart, and what it says when something is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from azure.storage.blob.aio import ContainerClient

from durabletask_azure.adapters.blobs import HubBlobs
from durabletask_azure.core.payloads import payload_name
from durabletask_azure.errors import HubUnavailableError, PayloadMissingError
from durabletask_azure.settings import Settings
from durabletask_azure.targets import HubNames, StorageTarget
from tests.azure_services import AzureServices

pytestmark = pytest.mark.azure
TEXT = b'{"text": "' + b"again and again " * 10_000 + b'"}'
ODD_IDS = ["a|b'c/d%e#f?g\\h", "🎉", "\ud800", "x" * 500, "I", "i", "", " ", "..", "a.", "a\0b"]
Open = Callable[..., HubBlobs]


@pytest.fixture
async def open_blobs(azure_services: AzureServices) -> AsyncIterator[Open]:
    """Open the test's container, which is not created, or that of another hub."""
    opened: list[HubBlobs] = []

    def open_one(
        hub: str = "",
        *,
        target: StorageTarget | None = None,
        page: int = 5_000,
        compress: int = 4_096,
    ) -> HubBlobs:
        names = HubNames(hub=f"{azure_services.names.hub}{hub}")
        one = HubBlobs(
            target or azure_services.storage,
            names,
            Settings(payload_compress_bytes_min=compress),
            page_names_max=page,
        )
        opened.append(one)
        return one

    yield open_one
    for one in opened:
        await one.close()


@pytest.fixture
async def blobs(open_blobs: Open) -> HubBlobs:
    """The test's container, created."""
    one = open_blobs()
    await one.create()
    return one


@pytest.fixture
async def container(azure_services: AzureServices, blobs: HubBlobs) -> AsyncIterator[ContainerClient]:
    """The same container through the SDK alone."""
    async with ContainerClient.from_connection_string(
        azure_services.azurite.connection_string, azure_services.names.container
    ) as client:
        yield client


def name_of(data: bytes, instance_id: str = "i") -> str:
    return payload_name(7, instance_id, "e1", data)


async def names_in(blobs: HubBlobs, prefix: str = "") -> set[str]:
    return {name async for name, _ in blobs.payloads.list(prefix)}


async def test_b120_a_container_is_created_once_and_deleted_once(open_blobs: Open) -> None:
    blobs = open_blobs()
    assert not await blobs.exists()
    assert await blobs.create()
    assert not await open_blobs().create()
    assert await blobs.exists()
    assert await blobs.delete()
    assert not await blobs.delete()
    assert not await blobs.exists()


async def test_two_hubs_of_one_account_do_not_see_each_other(open_blobs: Open) -> None:
    one, other = open_blobs("a"), open_blobs("b")
    for blobs in (one, other):
        await blobs.create()
    await one.payloads.put(name_of(TEXT), TEXT)

    assert await names_in(other) == set()
    with pytest.raises(PayloadMissingError):
        await other.payloads.get(name_of(TEXT), len(TEXT))
    await other.payloads.delete([name_of(TEXT)])
    await other.delete()
    assert await one.payloads.get(name_of(TEXT), len(TEXT)) == TEXT


async def test_b113_compressed_and_plain_values_are_read_by_both(
    open_blobs: Open, blobs: HubBlobs, container: ContainerClient
) -> None:
    plain = open_blobs(compress=len(TEXT) + 1)
    for writer, reader, stored in ((blobs, plain, b"\xffz"), (plain, blobs, b'{"')):
        await writer.payloads.put(name_of(TEXT), TEXT)
        assert await reader.payloads.get(name_of(TEXT), len(TEXT)) == TEXT
        download = await container.download_blob(name_of(TEXT))
        assert (await download.readall())[:2] == stored
    assert blobs.counters.bytes_written < len(TEXT) / 10 < plain.counters.bytes_written == len(TEXT)


async def test_b114_a_value_that_looks_like_an_address_is_a_value(
    azure_services: AzureServices, blobs: HubBlobs
) -> None:
    target = name_of(b"other")
    await blobs.payloads.put(target, b"other")
    for text in (
        f"{azure_services.azurite.blob_url}/{azure_services.names.container}/{target}",
        f'{{"kind": "blob", "name": "{target}", "size": 5}}',
        "https://127.0.0.1:1/x",
    ):
        data = text.encode()
        await blobs.payloads.put(name_of(data), data)
        assert await blobs.payloads.get(name_of(data), len(data)) == data


async def test_b115_values_of_odd_ids_are_found_again(blobs: HubBlobs) -> None:
    names = {name_of(b"1", instance_id) for instance_id in ODD_IDS}
    assert len(names) == len(ODD_IDS)
    for name in names:
        await blobs.payloads.put(name, b"1")
    assert await names_in(blobs) == names


async def test_a_large_value_goes_and_comes_in_one_request(blobs: HubBlobs) -> None:
    data = bytes(range(256)) * 40 * 1024
    await blobs.payloads.put(name_of(data), data)
    assert await blobs.payloads.get(name_of(data), len(data)) == data
    assert (blobs.counters.written, blobs.counters.read) == (1, 1)


async def test_names_come_page_by_page(open_blobs: Open, blobs: HubBlobs) -> None:
    names = {name_of(bytes([number])) for number in range(10)}
    for name in names:
        await blobs.payloads.put(name, b"")
    paged = open_blobs(page=3)

    assert await names_in(paged) == names
    assert paged.counters.pages_listed == 4

    await paged.payloads.delete(sorted(names) * 2)
    assert await names_in(paged) == set()
    assert paged.counters.deleted == 10


async def test_what_others_put_into_the_container_is_not_listed(
    blobs: HubBlobs, container: ContainerClient
) -> None:
    for name in ("readme.txt", "p007/x", f"{name_of(b'1')}.bak/more"):
        await container.upload_blob(name, b"theirs")
    await blobs.payloads.put(name_of(b"1"), b"1")
    assert await names_in(blobs) == {name_of(b"1")}


@pytest.mark.parametrize(
    "damage", [b"", b"\xffz", b"\xffznot zlib", TEXT + b"more", TEXT[:-1] + b"x", b"\xff-"]
)
async def test_a_damaged_value_is_an_error(
    blobs: HubBlobs, container: ContainerClient, damage: bytes
) -> None:
    await container.upload_blob(name_of(TEXT), damage)
    with pytest.raises(PayloadMissingError, match=r"damaged|bytes instead of"):
        await blobs.payloads.get(name_of(TEXT), len(TEXT))


async def test_no_more_of_a_blob_is_read_than_the_value_may_have(
    blobs: HubBlobs, container: ContainerClient
) -> None:
    await container.upload_blob(name_of(b"small"), b"x" * 1_000_000)
    with pytest.raises(PayloadMissingError):
        await blobs.payloads.get(name_of(b"small"), 5)
    assert blobs.counters.bytes_read < 20


async def test_without_the_container_every_call_says_so(open_blobs: Open) -> None:
    blobs = open_blobs()
    name = name_of(b"1")
    for call in (
        blobs.payloads.put(name, b"1"),
        blobs.payloads.get(name, 1),
        blobs.payloads.delete([name]),
        names_in(blobs),
    ):
        with pytest.raises(HubUnavailableError, match=r"does not exist \(ContainerNotFound\)"):
            await call


async def test_errors_name_the_account_and_not_its_key(
    azure_services: AzureServices, open_blobs: Open
) -> None:
    wrong = "d3Jvbmcga2V5IHdyb25nIGtleSB3cm9uZyBrZXk="
    blobs = open_blobs(target=replace(azure_services.storage, account_key=wrong))
    with pytest.raises(
        HubUnavailableError, match="'devstoreaccount1': the account refused the credentials"
    ) as error:
        await blobs.create()
    assert wrong not in str(error.value)


async def test_an_account_out_of_reach_is_told_at_once(
    azure_services: AzureServices, open_blobs: Open
) -> None:
    blobs = open_blobs(target=replace(azure_services.storage, blob_url="http://127.0.0.1:1/devstoreaccount1"))
    with pytest.raises(HubUnavailableError, match="no answer"):
        await blobs.exists()


async def test_a_closed_hub_says_so(blobs: HubBlobs) -> None:
    await blobs.close()
    await blobs.close()
    with pytest.raises(HubUnavailableError, match="closed"):
        await blobs.payloads.get(name_of(TEXT), len(TEXT))
    with pytest.raises(HubUnavailableError, match="closed"):
        await blobs.payloads.put(name_of(TEXT), TEXT)

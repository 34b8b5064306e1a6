"""Signing in with token credentials, over TLS: used, renewed before they end, and clear errors when refused."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from azurite.start import ACCOUNT, RunningAzurite
from durabletask_azure import (
    ActivityContext,
    AzureSettings,
    HubAccessError,
    HubUnavailableError,
    OrchestrationContext,
    TaskHub,
)
from durabletask_azure.azure_credential import Token
from durabletask_azure.emulator.broker.settings import Policy
from durabletask_azure.emulator.cbs import Credentials
from durabletask_azure.emulator.fixture import RunningEmulator
from durabletask_azure.emulator.server import ServerSettings
from tests.azure_services import AzureServices
from tests.behaviours.stage import Stage
from tests.wire.http_proxy import HttpProxy

pytestmark = [pytest.mark.azure, pytest.mark.timeout(120)]

HOUR_S = 3600
PARTITIONS = 4
STORAGE = "https://storage.azure.com"
BUS = "https://servicebus.azure.net/"


def jwt(audience: str, expires_on: int) -> str:
    """A token that emulators take: nobody checks who signed it."""
    tenant = "00000000-0000-0000-0000-000000000001"
    body = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{tenant}/",
        "tid": tenant,
        "oid": tenant,
        "nbf": 0,
        "iat": 0,
        "exp": expires_on,
        "ver": "1.0",
    }
    parts = [{"alg": "none", "typ": "JWT"}, body, {}]
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
    )


class Credential:
    """A credential of a test: notes who asks, and can be made to refuse."""

    def __init__(self, life_s: int = HOUR_S) -> None:
        self.life_s = life_s
        self.asked: list[str] = []
        self.refuses = False
        self.more = threading.Condition()

    def get_token(self, *scopes: str, **_: Any) -> Token:
        if self.refuses:
            raise PermissionError("AADSTS700016: the application was not found")
        with self.more:
            self.asked.append(scopes[0])
            self.more.notify_all()
        expires_on = int(time.time()) + self.life_s
        return Token(jwt(scopes[0].removesuffix("/.default"), expires_on), expires_on)

    def wait_for(self, scope: str, count: int) -> None:
        """Wait until a scope was asked for so many times."""
        with self.more:
            assert self.more.wait_for(lambda: self.asked.count(f"{scope}/.default") >= count, 60)


class AsyncCredential(Credential):
    async def get_token(self, *scopes: str, **options: Any) -> Token:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().get_token(*scopes, **options)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    files = {name: folder / f"{name}.pem" for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    files["cert"].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(files["key"])
    return files


def emulator(certificates: dict[str, Path], *, takes_tokens: bool) -> RunningEmulator:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates["cert"], certificates["key"])
    keys = Credentials({"Root": Policy("Root", "a2V5")}, accept_tokens=takes_tokens)
    return RunningEmulator(ServerSettings(port=0, tls_port=0, admin_port=0, tls=tls, credentials=keys))


@pytest.fixture(scope="module")
def with_tls(certificates: dict[str, Path]) -> Iterator[RunningEmulator]:
    """An emulator of Service Bus over TLS, which takes tokens until they expire."""
    with emulator(certificates, takes_tokens=True) as running:
        yield running


@pytest.fixture(scope="module")
def azurite_with_tls(certificates: dict[str, Path]) -> Iterator[RunningAzurite]:
    """An Azurite over TLS, which takes tokens until they expire."""
    running = RunningAzurite(cert=certificates["cert"], key=certificates["key"]).start()
    yield running
    running.kill()


@pytest.fixture
def place(
    azure_services: AzureServices,
    certificates: dict[str, Path],
    with_tls: RunningEmulator,
    azurite_with_tls: RunningAzurite,
) -> dict[str, Any]:
    """The options of settings that sign in everywhere with a credential."""
    return {
        **at_bus(with_tls),
        "storage": (
            f"AccountName={ACCOUNT};TableEndpoint={azurite_with_tls.table_url};"
            f"BlobEndpoint={azurite_with_tls.blob_url}"
        ),
        "hub": azure_services.names.hub,
        "ca_bundle": str(certificates["ca"]),
    }


def at_bus(running: RunningEmulator) -> dict[str, str]:
    return {
        "service_bus": "orders.servicebus.windows.net",
        "service_bus_address": f"sb://localhost:{running.server.tls_port}",
        "admin_url": f"https://localhost:{running.server.admin_tls_port}",
    }


def double(ctx: ActivityContext, number: int) -> int:
    return 2 * number


async def doubled(ctx: OrchestrationContext, number: int) -> int:
    return await ctx.call_activity(double, input=number)


@pytest.mark.parametrize("kind", [Credential, AsyncCredential])
def test_a_credential_signs_in_to_everything_and_is_asked_once_for_each_service(
    place: dict[str, Any], kind: type[Credential]
) -> None:
    credential = kind()
    with TaskHub.azure(AzureSettings(**place, credential=credential)) as hub:
        hub.create()
        assert hub.check().is_sound, str(hub.check())
        stage = Stage(hub)
        worker = stage.worker(doubled, activities=[double])
        assert stage.result(doubled, 21) == 42
        worker.stop()
        assert stage.client.get_hub_statistics().instance_count == 1
        assert hub.delete()
    assert sorted(set(credential.asked)) == [f"{BUS}/.default", f"{STORAGE}/.default"]
    assert len(credential.asked) == 2, credential.asked


def test_tokens_are_renewed_before_they_end_while_work_goes_on(place: dict[str, Any]) -> None:
    credential = Credential(life_s=14)
    with TaskHub.azure(AzureSettings(**place, credential=credential, create_if_missing=True)) as hub:
        stage = Stage(hub)
        stage.worker(doubled, activities=[double])
        for round_number in (1, 2, 3):
            credential.wait_for(BUS, round_number)
            assert stage.result(doubled, round_number) == 2 * round_number
            credential.wait_for(STORAGE, round_number)
            assert stage.result(doubled, round_number) == 2 * round_number


def test_websockets_carry_service_bus(place: dict[str, Any], with_tls: RunningEmulator) -> None:
    address = f"sb://localhost:{with_tls.server.admin_tls_port}"
    options: dict[str, Any] = {**place, "service_bus_address": address, "websockets": True}
    with TaskHub.azure(AzureSettings(**options, credential=Credential(), create_if_missing=True)) as hub:
        stage = Stage(hub)
        stage.worker(doubled, activities=[double])
        assert stage.result(doubled, 21) == 42


# What the SDK signs in to proxies with.
@pytest.mark.filterwarnings("ignore:(BasicAuth|The .proxy_auth. parameter) is deprecated:DeprecationWarning")
def test_a_proxy_carries_everything(
    place: dict[str, Any], with_tls: RunningEmulator, azurite_with_tls: RunningAzurite
) -> None:
    admin_port = with_tls.server.admin_tls_port
    with HttpProxy("me", "p@ss") as proxy:
        options: dict[str, Any] = {
            **place,
            "service_bus_address": f"sb://localhost:{admin_port}",
            "proxy": f"http://me:p%40ss@127.0.0.1:{proxy.port}",
            "create_if_missing": True,
        }
        with TaskHub.azure(AzureSettings(**options, credential=Credential())) as hub:
            stage = Stage(hub)
            stage.worker(doubled, activities=[double])
            assert stage.result(doubled, 21) == 42
            assert hub.check().is_sound
        storage = {
            url.partition("//")[2].partition("/")[0]
            for url in (azurite_with_tls.table_url, azurite_with_tls.blob_url)
        }
        # Links, the administration API, tables and blobs: each through it, and nothing it did not let pass.
        assert set(proxy.targets) == {f"localhost:{admin_port}"} | storage
        assert proxy.targets.count(f"localhost:{admin_port}") > PARTITIONS
        assert proxy.refused == 0


def test_a_credential_that_gives_no_token_is_one_clear_error(place: dict[str, Any]) -> None:
    credential = Credential()
    credential.refuses = True
    with TaskHub.azure(AzureSettings(**place, credential=credential)) as hub:
        for call in (hub.open, hub.create, hub.exists):
            with pytest.raises(HubAccessError, match=r"credential gives no token for .*AADSTS700016"):
                call()
        credential.refuses = False
        hub.create()
        hub.open()


def test_a_token_that_service_bus_refuses_is_one_clear_error(
    place: dict[str, Any], certificates: dict[str, Path]
) -> None:
    with TaskHub.azure(AzureSettings(**place, credential=Credential())) as hub:
        hub.create()
    with emulator(certificates, takes_tokens=False) as deaf:
        deaf.create_queue(f"{place['hub']}-orchestrations", requires_sessions=True)
        for manage, said in ((True, "role Azure Service Bus Data Owner"), (False, "Data Sender")):
            options: dict[str, Any] = {**place, **at_bus(deaf), "manage": manage}
            with TaskHub.azure(AzureSettings(**options, credential=Credential())) as hub:
                with pytest.raises(HubAccessError, match=said) as caught:
                    hub.open()
                assert "eyJ" not in str(caught.value), "no part of a token"


def test_a_certificate_that_nobody_vouches_for_is_one_clear_error(place: dict[str, Any]) -> None:
    without = {name: value for name, value in place.items() if name != "ca_bundle"}
    with (
        TaskHub.azure(AzureSettings(**without, credential=Credential())) as hub,
        pytest.raises(HubUnavailableError, match="certificate verify failed"),
    ):
        hub.open()

"""The ways to a namespace: TLS with a certificate of one's own, an address of its own, tokens, websockets."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from azure.core.credentials import AccessToken

from durabletask_azure.adapters.servicebus import open_queues
from durabletask_azure.emulator.cbs import Credentials
from durabletask_azure.emulator.fixture import RunningEmulator
from durabletask_azure.emulator.server import ServerSettings
from durabletask_azure.errors import ConfigurationError, HubUnavailableError
from durabletask_azure.settings import Settings
from durabletask_azure.targets import HubNames, QueueOptions, ServiceBusTarget
from tests.integration.queues_on_emulator import (
    LOCK_S,
    PARTITIONS,
    WAIT_S,
    EmulatedHub,
    accepted,
    ids,
    leavings_collected,
    message,
    received,
    task,
    tasks_received,
)

__all__ = ["leavings_collected"]

pytestmark = [
    pytest.mark.azure,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Credential:
    """Gives tokens that the emulator takes, and counts them."""

    def __init__(self) -> None:
        self.given = 0

    async def get_token(self, *scopes: str, **_: object) -> AccessToken:
        self.given += 1
        return AccessToken("taken unread", int(time.time()) + 3600)

    def __repr__(self) -> str:
        return "a credential"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningEmulator, str]]:
    """An emulator that takes tokens over TLS, and the file of the authority that signed its certificate."""
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    settings = ServerSettings(
        port=0, tls_port=0, admin_port=0, tls=context, credentials=Credentials({}, accept_tokens=True)
    )
    with RunningEmulator(settings) as emulator:
        yield emulator, str(path)


@pytest.mark.parametrize("websockets", [False, True], ids=["tls", "websockets"])
async def test_everything_goes_with_tokens_over_tls(
    bundle: tuple[RunningEmulator, str], websockets: bool
) -> None:
    emulator, path = bundle
    hub = EmulatedHub(emulator)
    hub.create()
    credential = Credential()
    port = emulator.server.admin_tls_port if websockets else emulator.server.tls_port
    target = ServiceBusTarget(
        namespace="orders.servicebus.windows.net",
        credential=credential,
        address=f"sb://localhost:{port}",
        websockets=websockets,
        ca_bundle=path,
    )
    queues = open_queues(
        target, hub.names, QueueOptions(lock_s=LOCK_S), Settings(lock_s=LOCK_S), partitions=PARTITIONS
    )
    try:
        session = await accepted(queues)
        await queues.orchestrations.send([message("a"), message("b")])
        await queues.activities.send([task("t")])
        deliveries = await received(session, 2)
        assert ids(deliveries) == ["a", "b"]
        (held,) = await tasks_received(queues, 1)
        await queues.activities.finish([(held, message("r"))])
        await session.complete(deliveries)
        assert ids(await received(session, 1)) == ["r"]
        await session.renew()
        await session.close()
        assert credential.given
    finally:
        began = time.monotonic()
        await queues.close()
        assert time.monotonic() - began < WAIT_S / 2
    assert emulator.counts(hub.names.activities()).active == 0


async def test_a_certificate_that_is_not_trusted_is_refused(bundle: tuple[RunningEmulator, str]) -> None:
    emulator, _ = bundle
    hub = EmulatedHub(emulator)
    hub.create()
    target = ServiceBusTarget(
        namespace="orders.servicebus.windows.net",
        credential=Credential(),
        address=f"sb://localhost:{emulator.server.tls_port}",
    )
    queues = open_queues(
        target, hub.names, QueueOptions(), Settings(link_timeout_s=5.0), partitions=PARTITIONS
    )
    try:
        with pytest.raises(HubUnavailableError, match=r"certificate|CERTIFICATE"):
            await queues.orchestrations.send([message("m")])
    finally:
        await queues.close()


def test_a_file_without_certificates_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "empty.pem"
    path.write_text("nothing")
    target = ServiceBusTarget(
        namespace="n.servicebus.windows.net", credential=Credential(), ca_bundle=str(path)
    )
    with pytest.raises(ConfigurationError, match=r"empty\.pem"):
        open_queues(target, HubNames(hub="orders"), QueueOptions(), Settings(), partitions=1)

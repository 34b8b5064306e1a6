"""What Service Bus refuses for good reason is said with the queue's name and what to look at, and without secrets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from durabletask_azure.emulator.broker.settings import Policy
from durabletask_azure.emulator.cbs import Credentials
from durabletask_azure.emulator.fixture import RunningEmulator
from durabletask_azure.emulator.server import ServerSettings
from durabletask_azure.errors import HubUnavailableError
from tests.integration.queues_on_emulator import (
    WAIT_S,
    EmulatedHub,
    leavings_collected,
    message,
    running,
    task,
)

__all__ = ["leavings_collected", "running"]

pytestmark = [
    pytest.mark.azure,
    # The SDK leaves sockets of connections that were refused to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
async def guarded() -> AsyncIterator[EmulatedHub]:
    """An emulator that checks keys."""
    credentials = Credentials({"good": Policy("good", "the key")})
    with RunningEmulator(
        ServerSettings(port=0, tls_port=0, admin_port=0, credentials=credentials)
    ) as emulator:
        made = EmulatedHub(emulator)
        made.create()
        yield made
        await made.close()


async def test_a_wrong_key_is_said_without_the_key(guarded: EmulatedHub) -> None:
    address = guarded.emulator.connection_string.replace("the key", "wrongsecret")
    queues = guarded.open(connection_string=address)

    for call in (
        lambda: queues.orchestrations.send([message("m")]),
        lambda: queues.orchestrations.accept(0),
        lambda: queues.activities.receive(1, WAIT_S),
        lambda: queues.activities.dead_letters(1),
    ):
        with pytest.raises(
            HubUnavailableError, match=r"not allowed\. Check the connection string"
        ) as refusal:
            await call()
        assert "wrongsecret" not in str(refusal.value)


async def test_a_missing_queue_is_said_by_name(running: RunningEmulator) -> None:
    hub = EmulatedHub(running)
    queues = hub.open()
    try:
        for call, name in (
            (lambda: queues.orchestrations.send([message("m")]), hub.names.orchestrations),
            (lambda: queues.orchestrations.accept(0), hub.names.orchestrations),
            (lambda: queues.activities.receive(1, WAIT_S), hub.names.activities()),
            (lambda: queues.activities.send([task("t")]), hub.names.activities()),
        ):
            with pytest.raises(HubUnavailableError, match="no such queue") as missing:
                await call()
            assert f"'{name}'" in str(missing.value)
    finally:
        await hub.close()


async def test_a_disabled_queue_is_said(running: RunningEmulator) -> None:
    hub = EmulatedHub(running)
    hub.create(status="Disabled")
    queues = hub.open()
    try:
        with pytest.raises(HubUnavailableError, match="disabled"):
            await queues.orchestrations.send([message("m")])
        with pytest.raises(HubUnavailableError, match="disabled"):
            await queues.orchestrations.accept(0)
    finally:
        await hub.close()

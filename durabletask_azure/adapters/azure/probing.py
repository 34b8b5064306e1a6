"""One link to each queue, opened and closed: whether Service Bus can be reached and lets this process in.

This is how a process without the right to manage finds out what is wrong before it starts to work, instead of by calls
that are tried again for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import ServiceBusError

from durabletask_azure.adapters.azure.parts import HubPlace
from durabletask_azure.adapters.azure.provisioning import mismatch
from durabletask_azure.adapters.servicebus import Entity, is_missing, make_client, translate
from durabletask_azure.errors import HubAccessError, TaskHubNotFoundError
from durabletask_azure.ports import HubFinding

__all__ = ["probe_sending", "probe_sessions"]

_NO_SESSIONS = ("cannot create a session receiver", "not session", "does not require sessions", "sessionful")


async def probe_sending(place: HubPlace, queue: str) -> None:
    """Open a sender of a queue.

    Raises:
        HubAccessError: not allowed. HubUnavailableError: no answer. TaskHubNotFoundError: no such queue.
    """
    async with _client(place) as client, _opened(place, queue, client.get_queue_sender(queue)):
        pass


async def probe_sessions(place: HubPlace) -> None:
    """Take a session of the orchestration queue that nobody uses; a process that may not receive is let off.

    Raises:
        HubMismatchError: the queue has no sessions. Others as :func:`probe_sending`, the first left out.
    """
    queue = place.names.orchestrations
    async with _client(place) as client:
        receiver = client.get_queue_receiver(queue, session_id=f"check-{uuid.uuid4().hex}", keep_alive=0)
        try:
            async with _opened(place, queue, receiver):
                return
        except HubAccessError:
            return
        except Exception as error:
            if not any(text in str(error).lower() for text in _NO_SESSIONS):
                raise
    raise mismatch(
        [
            HubFinding(
                part=f"queue {queue}",
                field="requires_session",
                wanted="True",
                actual="False",
                is_sound=False,
                remedy=f"delete queue {queue} and have a process that may manage create it again with repair()",
            )
        ]
    )


@contextlib.asynccontextmanager
async def _client(place: HubPlace) -> AsyncGenerator[ServiceBusClient]:
    client = make_client(place.service_bus, timeout_s=place.settings.link_timeout_s)
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(place.settings.link_close_s):
                await client.close()


@contextlib.asynccontextmanager
async def _opened(place: HubPlace, queue: str, link: Any) -> AsyncGenerator[None]:
    try:
        async with asyncio.timeout(place.settings.link_timeout_s):
            await link.__aenter__()
    except (ServiceBusError, OSError, TimeoutError, ValueError) as error:
        if is_missing(error):
            raise TaskHubNotFoundError(
                f"there is no queue {queue!r} in the Service Bus namespace {place.service_bus.namespace}: check"
                " service_bus and hub, or have a process that may manage create it with TaskHub.repair()"
            ) from error
        raise translate(error, "opening a link", Entity(place.service_bus.namespace, queue)) from error
    finally:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(place.settings.link_close_s):
                await link.close()
    yield

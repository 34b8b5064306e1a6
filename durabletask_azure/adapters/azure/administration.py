"""The administration API of a Service Bus namespace, for the queues of one hub: asked, created, deleted, counted.

It needs the right to manage. A client is made for each piece of work and closed after it: this is seldom used, and
never on the way of a message. The SDK's client speaks https to the namespace only; the transport here takes it to an
emulator's plain http, or another address.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, cast
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.core.pipeline.transport import AioHttpTransport
from azure.servicebus.aio.management import ServiceBusAdministrationClient
from azure.servicebus.management import QueueProperties

from durabletask_azure.adapters.azure.queue_plan import QueuePlan
from durabletask_azure.errors import (
    ConfigurationError,
    DurableTaskError,
    HubAccessError,
    HubUnavailableError,
    TaskHubError,
    ThrottledError,
)
from durabletask_azure.settings import Settings
from durabletask_azure.targets import Proxy, ServiceBusTarget

__all__ = ["Administration", "QueueCounts"]

_RETRIES: Final = 1
_THROTTLED_S: Final = 2.0
_TEXT_MAX: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """Messages of a queue: to be delivered now or received and not completed, scheduled for later, dead-lettered."""

    active: int
    scheduled: int
    dead: int


class Administration:
    """What may be asked of the administration API; each call raises only errors of this package."""

    def __init__(self, target: ServiceBusTarget, settings: Settings) -> None:
        self._target = target
        self._settings = settings

    @property
    def address(self) -> str:
        """Where it is."""
        return self._target.admin_url or f"https://{self._target.namespace}"

    async def find(self, name: str) -> QueueProperties | None:
        """Return the properties of a queue, ``None`` if there is none of that name."""
        async with self._client(f"asking for queue {name!r}") as client:
            try:
                return await client.get_queue(name)
            except ResourceNotFoundError:
                return None

    async def create(self, plan: QueuePlan) -> bool:
        """Create a queue; return false if there is one of that name."""
        async with self._client(f"creating queue {plan.name!r}") as client:
            options: dict[str, Any] = {
                "requires_session": plan.requires_session,
                "lock_duration": timedelta(seconds=plan.lock_s),
                "max_delivery_count": plan.delivery_count_max,
                "max_size_in_megabytes": plan.size_mb,
                "dead_lettering_on_message_expiration": True,
                "requires_duplicate_detection": plan.duplicate_window_s is not None,
            }
            if plan.duplicate_window_s is not None:
                options["duplicate_detection_history_time_window"] = timedelta(
                    seconds=plan.duplicate_window_s
                )
            if plan.time_to_live_s is not None:
                options["default_message_time_to_live"] = timedelta(seconds=plan.time_to_live_s)
            try:
                await client.create_queue(plan.name, **options)
            except ResourceExistsError:
                return False
            return True

    async def delete(self, name: str) -> bool:
        """Delete a queue and what is in it; return false if there is none of that name."""
        async with self._client(f"deleting queue {name!r}") as client:
            try:
                await client.delete_queue(name)
            except ResourceNotFoundError:
                return False
            return True

    async def count(self, name: str) -> QueueCounts:
        """Return how many messages a queue has; none if there is no queue of that name."""
        async with self._client(f"counting queue {name!r}") as client:
            try:
                found = await client.get_queue_runtime_properties(name)
            except ResourceNotFoundError:
                return QueueCounts(active=0, scheduled=0, dead=0)
            return QueueCounts(
                active=found.active_message_count or 0,
                scheduled=found.scheduled_message_count or 0,
                dead=found.dead_letter_message_count or 0,
            )

    @asynccontextmanager
    async def _client(self, doing: str) -> AsyncGenerator[ServiceBusAdministrationClient]:
        try:
            async with self._made() as client:
                yield client
        except DurableTaskError:
            raise
        except (AzureError, OSError, ValueError) as error:
            raise self._translated(error, doing) from _cause(error)

    def _made(self) -> ServiceBusAdministrationClient:
        target = self._target
        options: dict[str, Any] = {
            "transport": _Transport(target, self._settings),
            "retry_total": _RETRIES,
            "retry_backoff_factor": 0.2,
        }
        if target.proxy is not None:
            address = f"{target.proxy.host}:{target.proxy.port}"
            options["proxies"] = {"http": f"http://{address}", "https": f"http://{address}"}
        if target.connection_string is not None:
            return ServiceBusAdministrationClient.from_connection_string(target.connection_string, **options)
        return ServiceBusAdministrationClient(target.namespace, cast(Any, target.credential), **options)

    def _translated(self, error: Exception, doing: str) -> TaskHubError:
        begin = f"{doing} of Service Bus namespace {self._target.namespace}"
        status = error.status_code if isinstance(error, HttpResponseError) else None
        if status in (401, 403) or isinstance(error, ClientAuthenticationError):
            return HubAccessError(
                f"{begin}: not allowed ({status or 'no token'}). service_bus needs a key that is right and has the"
                " right Manage, or an identity with the role Azure Service Bus Data Owner; without, say manage=False"
            )
        if status in (429, 503):
            return ThrottledError(f"{begin}: it is busy", retry_after=timedelta(seconds=_THROTTLED_S))
        said = " ".join(str(error).split())[:_TEXT_MAX] or type(error).__name__
        if status is not None:
            return HubUnavailableError(f"{begin}: it failed ({status}): {said}")
        return HubUnavailableError(
            f"{begin}: no answer from {self.address}: check service_bus, the network, and the namespace's firewall:"
            f" {said}"
        )


def _cause(error: Exception) -> Exception | None:
    # A request holds the signature it was made with, and an error of the SDK holds its request.
    return None if isinstance(error, HttpResponseError) else error


class _Transport(AioHttpTransport):
    """Takes requests to the address that was given, with a signature that was given as it is."""

    def __init__(self, target: ServiceBusTarget, settings: Settings) -> None:
        base: Any = super()
        base.__init__(
            session=aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=_trusting(target.ca_bundle)),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=target.proxy is None,
            ),
            connection_timeout=settings.storage_connect_s,
            read_timeout=settings.storage_read_s,
        )
        self._address = None if target.admin_url is None else urlsplit(target.admin_url)
        self._signature = _signature(target.connection_string)
        self._proxy_headers = _proxy_headers(target.proxy)

    async def send(self, request: Any, **options: Any) -> Any:
        """Send a request."""
        if self._address is not None:
            wanted = urlsplit(str(request.url))
            request.url = urlunsplit(
                wanted._replace(scheme=self._address.scheme, netloc=self._address.netloc)
            )
        if self._signature is not None:
            request.headers["Authorization"] = self._signature
        if self._proxy_headers is not None:
            options["proxy_headers"] = self._proxy_headers
        base: Any = super()
        return await base.send(request, **options)


def _trusting(ca_bundle: str | None) -> ssl.SSLContext | bool:
    if ca_bundle is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"ca_bundle must be a PEM file of certificates, not {ca_bundle!r}"
        ) from error


def _proxy_headers(proxy: Proxy | None) -> dict[str, str] | None:
    """Return what a proxy with a user is told with each connection."""
    if proxy is None or proxy.username is None:
        return None
    user = f"{proxy.username}:{proxy.password or ''}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}


def _signature(connection_string: str | None) -> str | None:
    """Return the shared access signature of a connection string: the SDK would send it as a bearer token."""
    for part in (connection_string or "").split(";"):
        name, _, value = part.strip().partition("=")
        if name.lower() == "sharedaccesssignature":
            return value
    return None

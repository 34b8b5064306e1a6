"""How the SDK's clients are made of a :class:`~durabletask_azure.targets.ServiceBusTarget`: sign-in, proxy, trust.

Every connection shares one TLS context: left to itself, the SDK loads the certificate bundle anew for each, even
without TLS (24 ms of processor time). The SDK retries nothing: this package does, and knows what may be repeated.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import Any, cast

import certifi
from azure.servicebus import TransportType
from azure.servicebus.aio import ServiceBusClient

from durabletask_azure.errors import ConfigurationError
from durabletask_azure.targets import Proxy, ServiceBusTarget

__all__ = ["client_arguments", "make_client", "tls_context", "uses_websockets"]


@lru_cache(maxsize=8)
def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Return the TLS context of all connections that trust ``ca_bundle``, or without one the system's and Mozilla's
    certificates.

    Raises:
        ConfigurationError: the file cannot be read, or holds no certificates.
    """
    if ca_bundle is None:
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
        return context
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"the certificates in {ca_bundle!r} cannot be used: {error}") from error


def uses_websockets(target: ServiceBusTarget) -> bool:
    """Whether connections go through websockets on port 443, as they must through a proxy."""
    return target.websockets or target.proxy is not None


def client_arguments(target: ServiceBusTarget) -> dict[str, Any]:
    """Return the keyword arguments that the SDK's clients for this target share."""
    arguments: dict[str, Any] = {
        "ssl_context": tls_context(target.ca_bundle),
        # Said in any case: with an address of its own the SDK would take websockets.
        "transport_type": TransportType.AmqpOverWebsocket if uses_websockets(target) else TransportType.Amqp,
    }
    if target.address is not None:
        arguments["custom_endpoint_address"] = target.address
    if target.proxy is not None:
        arguments["http_proxy"] = _http_proxy(target.proxy)
    return arguments


def make_client(target: ServiceBusTarget, *, timeout_s: float) -> ServiceBusClient:
    """Return a client that retries nothing and gives up an attempt after ``timeout_s`` seconds; it opens nothing yet.

    Raises:
        ConfigurationError: the connection string cannot be read.
    """
    arguments: dict[str, Any] = {**client_arguments(target), "retry_total": 0, "try_timeout": timeout_s}
    if target.connection_string is None:
        return ServiceBusClient(target.namespace, cast(Any, target.credential), **arguments)
    try:
        return ServiceBusClient.from_connection_string(target.connection_string, **arguments)
    except ValueError as error:
        # The text of the error is the SDK's own and names no part of the string's value.
        raise ConfigurationError(
            f"the connection string of {target.namespace} cannot be used: {error}"
        ) from None


def _http_proxy(proxy: Proxy) -> dict[str, Any]:
    # The SDK's asynchronous client makes an address of the two, and does not say of which kind it is.
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    found: dict[str, Any] = {"proxy_hostname": f"http://{host}", "proxy_port": proxy.port}
    if proxy.username is not None:
        found |= {"username": proxy.username, "password": proxy.password or ""}
    return found

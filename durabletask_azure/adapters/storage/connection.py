"""How the clients of a storage account connect and sign in, from a :class:`StorageTarget`.

The SDK's own retries are off. Every port call may be repeated safely and whoever makes one repeats it (DESIGN 3), with
pauses that grow and end with the worker; a second layer of retries under that one would only hide throttling, delay
the news that an account is out of reach, and turn a commit that landed into a 409 or 412 behind the caller's back.
"""

from __future__ import annotations

import ssl
from typing import Any, cast
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.pipeline.transport import AioHttpTransport

from durabletask_azure._version import __version__
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.settings import Settings
from durabletask_azure.targets import Proxy, StorageTarget

__all__ = ["Credential", "client_options", "credential_of"]

Credential = AzureNamedKeyCredential | AzureSasCredential | AsyncTokenCredential


def credential_of(target: StorageTarget) -> Credential:
    """Return what clients of the account sign in with.

    Raises:
        ConfigurationError: the target has no way to sign in.
    """
    if target.account_key is not None:
        return AzureNamedKeyCredential(target.account_name, target.account_key)
    if target.sas_token is not None:
        return AzureSasCredential(target.sas_token.removeprefix("?"))
    if target.credential is not None:
        return cast(AsyncTokenCredential, target.credential)
    raise ConfigurationError(
        f"the storage account {target.account_name!r} needs an account key, a shared access signature or a credential"
    )


def client_options(target: StorageTarget, settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments, the credential left out, of a table or blob client of the account.

    To be called on the loop that uses the client: the transport belongs to it, and the client closes it. Each client
    needs options of its own.

    Raises:
        ConfigurationError: the file of certificates cannot be read.
    """
    options: dict[str, Any] = {
        "transport": AioHttpTransport(
            session=_session(target, settings),
            connection_timeout=settings.storage_connect_s,
            read_timeout=settings.storage_read_s,
        ),
        "retry_total": 0,
        "retry_connect": 0,
        "retry_read": 0,
        "retry_status": 0,
        "user_agent": f"durabletask_azure/{__version__}",
    }
    proxies = _proxies(target)
    if proxies:
        options["proxies"] = proxies
    return options


def _session(target: StorageTarget, settings: Settings) -> aiohttp.ClientSession:
    """Return connections of our own: the SDK's would read ``ca_bundle`` again for every request, and look into the
    environment and for a ``.netrc`` file in a thread, which costs a fifth of a point read."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            ssl=_trusting(target.ca_bundle), limit=settings.storage_connections_max
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


def _trusting(ca_bundle: str | None) -> ssl.SSLContext | bool:
    if ca_bundle is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"ca_bundle must be a PEM file of certificates, not {ca_bundle!r}: {error}"
        ) from error


def _proxies(target: StorageTarget) -> dict[str, str]:
    """Return the proxy for each of the account's addresses that has one: the target's own, or the environment's."""
    addresses = (target.table_url, target.blob_url)
    if target.proxy is not None:
        return dict.fromkeys(addresses, _proxy_url(target.proxy))
    known = getproxies()
    chosen: dict[str, str] = {}
    for address in addresses:
        parts = urlsplit(address)
        if parts.scheme in known and not proxy_bypass(parts.netloc):
            chosen[address] = known[parts.scheme]
    return chosen


def _proxy_url(proxy: Proxy) -> str:
    user = ""
    if proxy.username is not None:
        user = quote(proxy.username, safe="")
        if proxy.password is not None:
            user += f":{quote(proxy.password, safe='')}"
        user += "@"
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    return f"http://{user}{host}:{proxy.port}"

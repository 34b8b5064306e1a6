"""What the Azure adapters are opened with, made from the settings a user wrote. No SDK is imported here."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from durabletask_azure.azure_credential import SharedCredential
from durabletask_azure.azure_settings import AzureSettings
from durabletask_azure.connection_strings import ConnectionString
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.targets import HubNames, QueueOptions, ServiceBusTarget, StorageTarget

__all__ = ["AzureTargets", "targets_of"]

# Azurite's account, which everybody knows: it is in its documentation.
_DEVELOPMENT_ACCOUNT: Final = "devstoreaccount1"
_DEVELOPMENT_KEY: Final = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
_BLOB_PORT: Final = 10000
_TABLE_PORT: Final = 10002
_ADMIN_PORT: Final = 5300


class AzureTargets(NamedTuple):
    """Everything the Azure adapters are opened with."""

    service_bus: ServiceBusTarget
    storage: StorageTarget
    names: HubNames
    queues: QueueOptions


def targets_of(settings: AzureSettings, credential: SharedCredential) -> AzureTargets:
    """Return what the adapters need; ``credential`` is used where the settings have no key or signature.

    Raises:
        ConfigurationError: an account or host cannot be told from the addresses given.
    """
    return AzureTargets(
        _service_bus(settings, credential),
        _storage(settings, credential),
        HubNames(hub=settings.hub),
        QueueOptions(
            max_size_mb=settings.max_queue_size_in_megabytes,
            lock_s=settings.lock_s,
            delivery_count_max=settings.max_delivery_count,
            duplicate_window_s=settings.duplicate_window_s,
            time_to_live_s=settings.time_to_live_s,
            prefetch_max=settings.prefetch_max,
            activity_groups=settings.activity_groups,
        ),
    )


def _service_bus(settings: AzureSettings, credential: SharedCredential) -> ServiceBusTarget:
    place = settings.service_bus
    with_string = isinstance(place, ConnectionString)
    admin_url = settings.admin_url
    if with_string:
        parts = urlsplit(place["Endpoint"])
        namespace = parts.netloc
        if admin_url is None and settings.is_emulator:
            admin_url = f"http://{parts.hostname}:{_ADMIN_PORT}"
    else:
        namespace = _host_of(place, f"servicebus.{settings.endpoint_suffix}")
    return ServiceBusTarget(
        namespace=namespace,
        connection_string=place.reveal() if with_string else None,
        credential=None if with_string else credential,
        is_emulator=settings.is_emulator,
        address=settings.service_bus_address,
        websockets=settings.websockets,
        proxy=settings.proxy_parts(),
        admin_url=admin_url,
        ca_bundle=settings.ca_bundle,
    )


def _host_of(place: str, suffix: str) -> str:
    if "://" in place:
        return urlsplit(place).netloc
    return place if "." in place else f"{place}.{suffix}"


def _storage(settings: AzureSettings, credential: SharedCredential) -> StorageTarget:
    place = settings.storage
    proxy = settings.proxy_parts()
    if not isinstance(place, ConnectionString):
        table_url, blob_url = _addresses_of(place, settings.endpoint_suffix)
        return StorageTarget(
            account_name=_account_of(table_url),
            table_url=table_url,
            blob_url=blob_url,
            credential=credential,
            proxy=proxy,
            ca_bundle=settings.ca_bundle,
        )
    if place.flag("UseDevelopmentStorage", "storage"):
        base = place.get("DevelopmentStorageProxyUri", "http://127.0.0.1").rstrip("/")
        return StorageTarget(
            account_name=_DEVELOPMENT_ACCOUNT,
            table_url=f"{base}:{_TABLE_PORT}/{_DEVELOPMENT_ACCOUNT}",
            blob_url=f"{base}:{_BLOB_PORT}/{_DEVELOPMENT_ACCOUNT}",
            account_key=_DEVELOPMENT_KEY,
            proxy=proxy,
            ca_bundle=settings.ca_bundle,
        )
    scheme = place.get("DefaultEndpointsProtocol", "https").lower()
    suffix = place.get("EndpointSuffix", f"core.{settings.endpoint_suffix}").strip("./")
    account = place.get("AccountName", "")
    table_url = place.get("TableEndpoint", f"{scheme}://{account}.table.{suffix}").rstrip("/")
    blob_url = place.get("BlobEndpoint", f"{scheme}://{account}.blob.{suffix}").rstrip("/")
    key, signature = place.get("AccountKey"), place.get("SharedAccessSignature")
    return StorageTarget(
        account_name=account or _account_of(table_url),
        table_url=table_url,
        blob_url=blob_url,
        account_key=key,
        sas_token=None if signature is None else signature.lstrip("?"),
        credential=credential if key is None and signature is None else None,
        proxy=proxy,
        ca_bundle=settings.ca_bundle,
    )


def _addresses_of(place: str, suffix: str) -> tuple[str, str]:
    """Return the addresses of tables and blobs of an account that is named, or addressed by either of them."""
    if "://" not in place and "." not in place:
        return f"https://{place}.table.core.{suffix}", f"https://{place}.blob.core.{suffix}"
    parts = urlsplit(place if "://" in place else f"https://{place}")
    account, _, rest = parts.netloc.partition(".")
    service, _, domain = rest.partition(".")
    if service not in ("table", "blob", "queue", "file", "dfs") or not domain or parts.path.strip("/"):
        raise ConfigurationError(
            "storage must be the name of an account or an address such as"
            " https://<account>.table.core.windows.net; for other addresses give a connection string with"
            " TableEndpoint=...;BlobEndpoint=... (without a key it is signed in to with the credential)"
        )
    return f"{parts.scheme}://{account}.table.{domain}", f"{parts.scheme}://{account}.blob.{domain}"


def _account_of(url: str) -> str:
    """Return the account of an address: the first label of its host, or of an emulator's the first part of the path."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    in_path = parts.path.strip("/").partition("/")[0]
    try:
        ip_address(host)
    except ValueError:
        return in_path if host == "localhost" or "." not in host else host.partition(".")[0]
    return in_path

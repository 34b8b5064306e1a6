"""Where the services of an Azure hub are and how to sign in to them: what the Azure adapters are opened with.

Made by ``azure_settings.py`` from what a user wrote; no SDK is imported here, and no secret is in a repr.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["HubNames", "Proxy", "QueueOptions", "ServiceBusTarget", "StorageTarget"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy that all connections go through (Service Bus then needs websockets)."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceBusTarget:
    """A Service Bus namespace.

    Either ``connection_string`` is set, or ``namespace`` and ``credential`` (an asynchronous token credential that any
    event loop may use). ``admin_url`` is the address of the administration API where it is not the namespace's own: an
    emulator's, over plain HTTP.
    """

    namespace: str
    connection_string: str | None = field(default=None, repr=False)
    credential: object | None = field(default=None, repr=False)
    is_emulator: bool = False
    """Whether it is an emulator over plain AMQP, as ``UseDevelopmentEmulator=true`` in the connection string says."""
    address: str | None = None
    """``sb://host:port`` to connect to instead of the namespace's own address: a private endpoint or a gateway."""
    websockets: bool = False
    proxy: Proxy | None = None
    admin_url: str | None = None
    ca_bundle: str | None = None
    """A PEM file of certificates to trust, instead of the system's (private endpoints, tests over TLS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageTarget:
    """A storage account: the addresses of its two services, and a way to sign in.

    ``credential`` is an asynchronous token credential as above, or ``account_key`` is set (with ``account_name``), or
    ``sas_token``.
    """

    account_name: str
    table_url: str
    blob_url: str
    account_key: str | None = field(default=None, repr=False)
    sas_token: str | None = field(default=None, repr=False)
    credential: object | None = field(default=None, repr=False)
    proxy: Proxy | None = None
    ca_bundle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubNames:
    """The names of a hub's resources, all derived from the hub's name (lower case letters and digits).

    Hub ``orders`` has the queues ``orders-orchestrations``, ``orders-activities`` and, for each activity group,
    ``orders-activities-<group>``, the table ``orders`` and the container ``orders-payloads``; so no two hubs share any.
    """

    hub: str

    @property
    def table(self) -> str:
        """The table of rows."""
        return self.hub

    @property
    def container(self) -> str:
        """The container of spilled values."""
        return f"{self.hub}-payloads"

    @property
    def orchestrations(self) -> str:
        """The session queue of messages to partitions."""
        return f"{self.hub}-orchestrations"

    def activities(self, group: str = "") -> str:
        """The queue of activity tasks of a group; the common one without a name."""
        return f"{self.hub}-activities-{group}" if group else f"{self.hub}-activities"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """What the hub's queues are created with, and how they are used. Times in seconds.

    ``activity_groups`` maps the name of a group to the names of its activities; activities of no group go through the
    common queue.
    """

    max_size_mb: int = 1024
    lock_s: float = 30.0
    delivery_count_max: int = 10
    duplicate_window_s: float | None = 300.0
    """``None``: no duplicate detection (nothing rests on it)."""
    time_to_live_s: float | None = None
    """``None``: the longest the service allows."""
    prefetch_max: int = 100
    activity_groups: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])

"""What a connection reports to whoever drives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from durabletask_azure.emulator.amqp.states import Outcome
from durabletask_azure.emulator.amqp.types import AmqpError

if TYPE_CHECKING:
    from durabletask_azure.emulator.amqp.links import IncomingLink, OutgoingDelivery, OutgoingLink


@dataclass(slots=True)
class ConnectionOpened:
    """The peer has opened the connection; it was answered."""


@dataclass(slots=True)
class LinkAttached:
    """The peer attaches a link, which wants `accept` or `refuse`."""

    link: IncomingLink | OutgoingLink


@dataclass(slots=True)
class LinkDetached:
    """A link is gone: detached by the peer (already answered), or with its session or connection.

    `cut` tells that it went with the connection, without a word of its own.
    """

    link: IncomingLink | OutgoingLink
    cut: bool


@dataclass(slots=True)
class MessageReceived:
    """A whole message came on a link; unless it is settled it wants `settle`."""

    link: IncomingLink
    delivery_id: int
    message_format: int
    payload: bytes
    settled: bool


@dataclass(slots=True)
class CreditChanged:
    """The peer set the credit of a link."""

    link: OutgoingLink


@dataclass(slots=True)
class DeliveryUpdated:
    """The peer told its outcome of a delivery. Unless it settled it by itself, it wants `settle`."""

    link: OutgoingLink
    delivery: OutgoingDelivery
    outcome: Outcome
    settled: bool


@dataclass(slots=True)
class ConnectionClosed:
    """The connection is at its end: send what is left, then cut it."""

    error: AmqpError | None


Event: TypeAlias = (
    ConnectionOpened
    | LinkAttached
    | LinkDetached
    | MessageReceived
    | CreditChanged
    | DeliveryUpdated
    | ConnectionClosed
)

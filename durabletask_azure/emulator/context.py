"""What the parts of a connected client share: the broker, and the client as its links see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from durabletask_azure.emulator.amqp.links import IncomingLink, OutgoingLink
from durabletask_azure.emulator.amqp.types import AmqpError
from durabletask_azure.emulator.broker.namespace import Namespace
from durabletask_azure.emulator.cbs import Access, Credentials
from durabletask_azure.emulator.faults import Faults
from durabletask_azure.emulator.limits import Limits


@dataclass(frozen=True, slots=True)
class Broker:
    """What all peers share.

    Attributes:
        namespace: the queues.
        credentials: what is taken.
        limits: what is allowed.
        faults: what goes wrong on request.
        clock: seconds since 1970.
        later: calls something after some seconds.
    """

    namespace: Namespace
    credentials: Credentials
    limits: Limits
    clock: Callable[[], float]
    later: Callable[[float, Callable[[], None]], None]
    faults: Faults = field(default_factory=Faults)


class Client(Protocol):
    """A connected client, as its links see it.

    Attributes:
        name: how the log names it.
        broker: what it talks to.
        access: what it may do.
        congested: whether it reads too slowly to be sent more now.
        dirty: to be called when there is output to send.
        abort: cuts the connection without a word.
    """

    name: str
    broker: Broker
    access: Access
    congested: bool
    dirty: Callable[[], None]
    abort: Callable[[], None]

    def drop(self, link: IncomingLink | OutgoingLink, error: AmqpError | None) -> None:
        """Detach a link from our side."""
        ...

    def refuse(self, link: IncomingLink | OutgoingLink, error: AmqpError) -> None:
        """Answer an attach with a refusal."""
        ...

"""What a client's calls do to a hub, made of its ports once they are open."""

from __future__ import annotations

import uuid

from durabletask_azure.engine.operations import ClientOperations
from durabletask_azure.hosting import HubHost
from durabletask_azure.ports import HubPorts

__all__ = ["Operations", "new_id"]


class Operations:
    """Returns the operations on a hub's ports; called on the hub's thread, by calls that run once the hub is open."""

    def __init__(self, host: HubHost) -> None:
        self._host = host
        self._made: tuple[HubPorts, ClientOperations] | None = None

    @property
    def partitions(self) -> int:
        """How many partitions the hub has."""
        return self._host.ports.info.partitions

    def __call__(self) -> ClientOperations:
        """Return the operations on the ports that are open now."""
        ports = self._host.ports
        if self._made is None or self._made[0] is not ports:
            self._made = ports, ClientOperations(ports, self._host.settings, new_id)
        return self._made[1]


def new_id() -> str:
    """Return an id that nobody else has."""
    return uuid.uuid4().hex

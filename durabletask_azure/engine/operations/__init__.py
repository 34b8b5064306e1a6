"""What clients do to instances: start, raise, terminate, suspend, resume, rewind, reset, restart, purge, and wait.

A start writes a row; everything else is a message to the partition's owner. One part each in this folder.
"""

from __future__ import annotations

from collections.abc import Callable

from durabletask_azure.engine.instances import InstanceReader
from durabletask_azure.engine.operations.asked import Asked
from durabletask_azure.engine.operations.orders import Orders
from durabletask_azure.engine.operations.purging import FilteredPurge, Purging
from durabletask_azure.engine.operations.rewinding import Rewinding
from durabletask_azure.engine.operations.sending import Sending
from durabletask_azure.engine.operations.starting import Starting, StartRequest
from durabletask_azure.engine.operations.upkeep import Upkeep
from durabletask_azure.engine.operations.waiting import Waiting
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings

__all__ = ["Asked", "ClientOperations", "FilteredPurge", "StartRequest"]


class ClientOperations:
    """A client's calls on the ports of one hub. ``new_id`` makes ids that never repeat."""

    def __init__(self, ports: HubPorts, settings: Settings, new_id: Callable[[], str]) -> None:
        sending = Sending(ports, settings, new_id)
        self.instances = InstanceReader(ports, settings)
        self.waiting = Waiting(ports, settings, self.instances)
        self.starting = Starting(ports, settings, sending, self.instances, self.waiting)
        self.orders = Orders(ports.clock, ports.intake, sending)
        self.purging = Purging(ports, settings, sending, self.instances, self.waiting)
        self.rewinding = Rewinding(sending, self.instances, self.waiting, self.starting)
        self.upkeep = Upkeep(ports, settings, sending)

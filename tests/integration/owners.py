"""A partition's owner as tests of its parts need it: nothing registered, nothing running."""

from __future__ import annotations

from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.engine.cache import WarmCache
from durabletask_azure.engine.counters import Counters
from durabletask_azure.engine.partition import PartitionOwner
from durabletask_azure.engine.quiet import Quiet
from durabletask_azure.ports import HubPorts, PartitionSession
from durabletask_azure.settings import Settings


def owner_of(session: PartitionSession, ports: HubPorts, settings: Settings) -> PartitionOwner:
    """Return the owner of a session."""
    return PartitionOwner(
        session,
        ports,
        Registry(),
        settings,
        RuntimeOptions(),
        owner_id="w",
        warm=WarmCache(settings.warm_instances_max),
        counters=Counters(),
        quiet=Quiet(ports.clock, settings.lock_s),
    )

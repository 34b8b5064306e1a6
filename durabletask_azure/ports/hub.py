"""All ports of one hub, as the composition root hands them to engine and clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from durabletask_azure.ports.clock import Clock
from durabletask_azure.ports.dead_letters import DeadLetterArchive
from durabletask_azure.ports.express import Express
from durabletask_azure.ports.intake import Intake
from durabletask_azure.ports.membership import Membership
from durabletask_azure.ports.payloads import PayloadStore
from durabletask_azure.ports.queues import ActivityQueue, OrchestrationQueue
from durabletask_azure.ports.statistics import Statistics
from durabletask_azure.ports.store import AtomicPlans, ChangeSignal, PartitionStore

__all__ = ["HubInfo", "HubPorts", "TransactionLimits"]


class HubInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is fixed when a hub is created: its schema version, incarnation, number of partitions and birth."""

    schema_version: int
    incarnation: str
    partitions: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionLimits:
    """What one transaction of the store takes: rows (the lock row included) and bytes (``None``: any number)."""

    rows_max: int
    bytes_max: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPorts:
    """The ports of one hub. ``atomic`` is set when store and queues share transactions, ``intake`` when the hub itself
    has to limit what clients send, ``express`` when it does what they ask for most without a coroutine for each.

    ``close`` closes all of them at once, for everybody who shares them; ``None`` where nothing needs to be closed.
    """

    info: HubInfo
    orchestrations: OrchestrationQueue
    activities: ActivityQueue
    store: PartitionStore
    payloads: PayloadStore
    membership: Membership
    changes: ChangeSignal
    clock: Clock
    limits: TransactionLimits
    archive: DeadLetterArchive
    statistics: Statistics
    atomic: AtomicPlans | None = None
    intake: Intake | None = None
    express: Express | None = None
    close: Callable[[], Awaitable[None]] | None = None

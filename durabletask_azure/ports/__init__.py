"""What the engine needs from a hub, as small protocols; their docstrings are the contract every adapter is tested by.

All methods are coroutines of the engine's event loop and may be called from several of its tasks at once, unless said
otherwise. Adapters raise only errors of ``durabletask_azure.errors``:

* ``ThrottledError``: nothing happened; come back after ``retry_after``.
* ``HubUnavailableError``: the call may or may not have taken effect. Every call is made so that repeating it is safe.
* what else a method names.
"""

from durabletask_azure.ports.clock import Clock
from durabletask_azure.ports.dead_letters import ArchivedLetter, DeadLetterArchive
from durabletask_azure.ports.express import Express
from durabletask_azure.ports.hub import HubInfo, HubPorts, TransactionLimits
from durabletask_azure.ports.intake import Intake
from durabletask_azure.ports.membership import Membership, WorkerRow
from durabletask_azure.ports.payloads import PayloadStore
from durabletask_azure.ports.provisioning import HubFinding, HubReport, Provisioning
from durabletask_azure.ports.queues import (
    ActivityDelivery,
    ActivityQueue,
    DeadLetter,
    Delivery,
    FetchesAhead,
    Interruptible,
    OrchestrationQueue,
    PartitionSession,
)
from durabletask_azure.ports.statistics import HubCounts, PartitionDepth, Statistics
from durabletask_azure.ports.store import (
    AtomicPlans,
    ChangeSignal,
    EndedInstance,
    InstanceFilter,
    InstancePage,
    InstanceWatch,
    PartitionStore,
    ReadsTogether,
    Receipt,
    StoredInstance,
    StoredLock,
)

__all__ = [
    "ActivityDelivery",
    "ActivityQueue",
    "ArchivedLetter",
    "AtomicPlans",
    "ChangeSignal",
    "Clock",
    "DeadLetter",
    "DeadLetterArchive",
    "Delivery",
    "EndedInstance",
    "Express",
    "FetchesAhead",
    "HubCounts",
    "HubFinding",
    "HubInfo",
    "HubPorts",
    "HubReport",
    "InstanceFilter",
    "InstancePage",
    "InstanceWatch",
    "Intake",
    "Interruptible",
    "Membership",
    "OrchestrationQueue",
    "PartitionDepth",
    "PartitionSession",
    "PartitionStore",
    "PayloadStore",
    "Provisioning",
    "ReadsTogether",
    "Receipt",
    "Statistics",
    "StoredInstance",
    "StoredLock",
    "TransactionLimits",
    "WorkerRow",
]

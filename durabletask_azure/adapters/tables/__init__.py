"""Azure Table Storage as the place of a hub's rows: partition store, membership, dead letters, change signal."""

from durabletask_azure.adapters.tables.counters import TableCounters
from durabletask_azure.adapters.tables.hub_table import LIMITS, HubTable

__all__ = ["LIMITS", "HubTable", "TableCounters"]

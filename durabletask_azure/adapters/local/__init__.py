"""The embedded hub: SQLite and files, or memory; see ``hub_file.py``."""

from durabletask_azure.adapters.local.hub_file import LocalHub, LocalStats, open_hub, open_local
from durabletask_azure.adapters.local.provisioning import LocalProvisioning

__all__ = ["LocalHub", "LocalProvisioning", "LocalStats", "open_hub", "open_local"]

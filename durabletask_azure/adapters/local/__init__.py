"""The embedded hub: SQLite and files, or memory; see ``hub_file.py``."""

from durabletask_azure.adapters.local.hub_file import LocalHub, LocalStats, open_hub, open_local

__all__ = ["LocalHub", "LocalStats", "open_hub", "open_local"]

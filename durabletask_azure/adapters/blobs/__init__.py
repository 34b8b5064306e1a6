"""Blob storage: the container of a hub's spilled values; see ``hub_blobs.py``."""

from durabletask_azure.adapters.blobs.counters import BlobCounters
from durabletask_azure.adapters.blobs.hub_blobs import HubBlobs

__all__ = ["BlobCounters", "HubBlobs"]

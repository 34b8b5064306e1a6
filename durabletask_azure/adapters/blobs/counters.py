"""What went over the wire, counted: the operations that Blob storage bills."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BlobCounters"]


@dataclass(slots=True)
class BlobCounters:
    """Counts since the container was opened, failed calls included."""

    written: int = 0
    """Values stored, one operation each."""
    read: int = 0
    """Values read, one operation each."""
    deleted: int = 0
    """Names asked to be deleted, one operation each (which Azure does not charge for)."""
    pages_listed: int = 0
    """Pages of names."""
    bytes_written: int = 0
    """Bytes sent, as stored: after compression."""
    bytes_read: int = 0
    """Bytes received, as stored."""

"""Where values too large for a row or a message are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol

__all__ = ["PayloadStore"]


class PayloadStore(Protocol):
    """Write-once values by name. Names are derived from content, so writing one again is harmless."""

    async def put(self, name: str, data: bytes) -> None:
        """Store ``data`` durably under ``name``; returning means it is there for every reader.

        Storing a name again renews its time of writing: orphan collection goes by it.
        """
        ...

    async def get(self, name: str, size: int) -> bytes:
        """Return the value of ``name``.

        Raises:
            PayloadMissingError: it does not exist, is not ``size`` bytes long, or is damaged.
        """
        ...

    async def delete(self, names: Sequence[str]) -> None:
        """Delete values; missing ones are no error."""
        ...

    def list(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """Yield name and time of writing (the store's clock) of all values whose name starts with ``prefix``."""
        ...

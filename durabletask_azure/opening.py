"""The ports of a hub, opened by the first call that needs them: once, and again only if that failed.

Only the hub's own thread uses this, so nothing here is locked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from durabletask_azure.errors import HubUnavailableError
from durabletask_azure.ports import HubPorts

__all__ = ["OpenPorts", "OpenedPorts"]

OpenPorts = Callable[[], Awaitable[HubPorts]]
"""Opens the ports of a hub; an error leaves nothing open."""


class OpenedPorts:
    """The ports of a hub, once they are open."""

    def __init__(
        self, ports: HubPorts | None, open_ports: OpenPorts, at_end: Callable[[], None] | None = None
    ) -> None:
        self._ports = ports
        self._open_ports = open_ports
        self._at_end = at_end
        self._opening: asyncio.Task[HubPorts] | None = None
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether the ports can be used; may be asked from any thread."""
        return self._ports is not None

    def get(self) -> HubPorts:
        """Return the open ports.

        Raises:
            HubUnavailableError: they are not open.
        """
        if self._ports is None:
            raise HubUnavailableError("the task hub is not open")
        return self._ports

    async def open(self) -> HubPorts:
        """Open the ports, or wait for whoever is opening them; cancelling one who waits leaves the others alone.

        Raises:
            DurableTaskError: they cannot be opened; the next call tries again.
        """
        if self._ports is not None:
            return self._ports
        if self._closed:
            raise HubUnavailableError("the task hub was closed while it was being opened")
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> HubPorts:
        try:
            self._ports = await self._open_ports()
        finally:
            self._opening = None
        return self._ports

    async def let_go(self) -> None:
        """Close the ports, or give up opening them; the next call opens them again.

        Raises:
            TaskHubError: something could not be given back; the ports are closed all the same.
        """
        opening, ports = self._opening, self._ports
        if opening is not None:
            opening.cancel()
            with contextlib.suppress(Exception, asyncio.CancelledError):  # whoever waits for it is told
                await opening
            ports = self._ports
        self._ports = None
        if ports is not None and ports.close is not None:
            await ports.close()

    async def close(self) -> None:
        """Close the ports for good. Raises as :meth:`let_go`."""
        self._closed = True
        try:
            await self.let_go()
        finally:
            if self._at_end is not None:
                self._at_end()

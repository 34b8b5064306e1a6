"""The emulator as a server on asyncio: it moves bytes and keeps the time; what they mean is decided elsewhere.

All that happens in one pass of the loop is committed to disk together, and only then sent: nothing is acknowledged
that a kill could lose.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from durabletask_azure.emulator.admin.api import AdminApi
from durabletask_azure.emulator.admin.http import HttpServer
from durabletask_azure.emulator.amqp.types import AmqpError
from durabletask_azure.emulator.broker.namespace import Namespace
from durabletask_azure.emulator.broker.queue import Queue
from durabletask_azure.emulator.cbs import Credentials
from durabletask_azure.emulator.context import Broker
from durabletask_azure.emulator.faults import Faults
from durabletask_azure.emulator.limits import Limits
from durabletask_azure.emulator.peer import Peer
from durabletask_azure.emulator.persistence import Store

logger = logging.getLogger("durabletask_azure.emulator")

UPKEEP_S: Final = 1.0
BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How an emulator runs.

    Attributes:
        host: the address it listens on.
        port: for plain AMQP; 0 picks a free one.
        tls_port: for AMQP over TLS; 0 picks a free one. Only with `tls`.
        admin_port: for the administration API; 0 picks a free one.
        tls: the certificate, if there is to be TLS.
        persist: a SQLite file that keeps everything; empty keeps nothing.
        credentials: what is taken of clients.
        limits: what is allowed.
        clock: its time, in seconds since 1970; one that is wrong makes the clocks of its clients wrong.
    """

    host: str = "127.0.0.1"
    port: int = 5672
    tls_port: int = 5671
    admin_port: int = 5300
    tls: ssl.SSLContext | None = None
    persist: str = ""
    credentials: Credentials = field(default_factory=Credentials)
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.time


class Emulator:
    """A running emulator. Everything happens in the loop that started it."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.faults = Faults()
        self.port = 0
        self.tls_port = 0
        self.admin_port = 0
        self.admin_tls_port = 0
        self._loop = asyncio.get_running_loop()
        self._alarms: dict[Queue, tuple[float, asyncio.TimerHandle]] = {}
        self._protocols: set[_PeerProtocol] = set()
        self._dirty: set[_PeerProtocol] = set()
        self._flushing = False
        self._servers: list[asyncio.Server] = []
        self._upkeep: asyncio.TimerHandle | None = None
        self._store = Store(settings.persist) if settings.persist else None
        self.namespace = Namespace(settings.clock, self._alarm, lambda: os.urandom(8), self._store)
        self.broker = Broker(
            self.namespace, settings.credentials, settings.limits, settings.clock, self._later, self.faults
        )
        if self._store is not None:
            self._store.load(self.namespace)
        api = AdminApi(
            self.namespace,
            settings.credentials,
            self.faults,
            self.broker.traffic,
            settings.clock,
            self.changed,
            self._status,
            self.cut_all,
        )
        self._admin = HttpServer(api.handle, settings.limits.request_bytes_max, self._protocol)

    async def start(self) -> None:
        """Listen."""
        settings = self.settings
        plain = await self._loop.create_server(self._protocol, settings.host, settings.port, backlog=BACKLOG)
        self._servers.append(plain)
        self.port = _port(plain)
        if settings.tls is not None:
            tls = await self._loop.create_server(
                self._protocol, settings.host, settings.tls_port, ssl=settings.tls, backlog=BACKLOG
            )
            self._servers.append(tls)
            self.tls_port = _port(tls)
        self.admin_port = await self._admin.listen(settings.host, settings.admin_port)
        if settings.tls is not None:
            self.admin_tls_port = await self._admin.listen(settings.host, 0, settings.tls)
        self._upkeep = self._loop.call_later(UPKEEP_S, self._look_after)

    async def stop(self) -> None:
        """Close every connection and keep what is to be kept."""
        for server in self._servers:
            server.close()
        if self._upkeep is not None:
            self._upkeep.cancel()
        for protocol in list(self._protocols):
            protocol.peer.fail(AmqpError("amqp:connection:forced", "the emulator stops"))
        self._flush()
        for _, handle in self._alarms.values():
            handle.cancel()
        for protocol in list(self._protocols):
            protocol.abort()
        await self._admin.stop()
        for server in self._servers:
            await server.wait_closed()
        if self._store is not None:
            self._store.close()

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._protocols)

    def _status(self) -> dict[str, object]:
        return {"connections": self.connections, "queues": len(self.namespace.entries())}

    def cut_all(self) -> None:
        """Cut every connection without a word, as a restart does."""
        for protocol in list(self._protocols):
            protocol.abort()

    def changed(self) -> None:
        """Commit and send, soon; called after a change that came from elsewhere than a connection."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    # ------------------------------------------------------------ time

    def _alarm(self, queue: Queue, due: float) -> None:
        known = self._alarms.get(queue)
        if known is not None:
            if known[0] <= due:
                return
            known[1].cancel()
        delay = max(due - self.settings.clock(), 0.0)
        self._alarms[queue] = (due, self._loop.call_later(min(delay, 86_400.0), self._tick, queue))

    def _tick(self, queue: Queue) -> None:
        self._alarms.pop(queue, None)
        if queue.closed is None:
            queue.tick()
            self.changed()

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._loop.call_later(seconds, callback)

    def _look_after(self) -> None:
        now = self.settings.clock()
        for protocol in list(self._protocols):
            protocol.peer.upkeep(now)
        self._upkeep = self._loop.call_later(UPKEEP_S, self._look_after)

    # ------------------------------------------------------------ connections

    def _protocol(self) -> _PeerProtocol:
        return _PeerProtocol(self)

    def opened(self, protocol: _PeerProtocol) -> bool:
        """Note a connection; False if there are too many."""
        if len(self._protocols) >= self.settings.limits.connections_max:
            logger.warning("a connection is refused: there are %d already", len(self._protocols))
            return False
        self._protocols.add(protocol)
        return True

    def closed(self, protocol: _PeerProtocol) -> None:
        """Forget a connection."""
        self._protocols.discard(protocol)
        self._dirty.discard(protocol)
        self.changed()

    def mark(self, protocol: _PeerProtocol) -> None:
        """Note that a connection has something to send."""
        self._dirty.add(protocol)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._store is not None:
            self._store.commit()
        dirty, self._dirty = self._dirty, set()
        for protocol in dirty:
            protocol.send()


class _PeerProtocol(asyncio.Protocol):
    """Moves the bytes of one connection."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._transport: asyncio.Transport | None = None
        self._reading = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start."""
        self._transport = cast("asyncio.Transport", transport)
        name = str(transport.get_extra_info("peername"))
        self.peer = Peer(self._emulator.broker, name, lambda: self._emulator.mark(self), self.abort)
        if not self._emulator.opened(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand bytes on."""
        if self.peer.closed:
            return
        try:
            self.peer.receive(data)
        except Exception:
            # A bug of ours ends the connection that met it, and no other.
            logger.exception("%s: an error of the emulator itself", self.peer.name)
            self.peer.fail(AmqpError("amqp:internal-error", "an error of the emulator itself; see its log"))

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        del exc
        self.peer.lost()
        self._emulator.closed(self)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self.peer.set_congested(True)

    def resume_writing(self) -> None:
        """It has caught up."""
        self._resume_reading()
        self.peer.set_congested(False)

    def send(self) -> None:
        """Write what there is."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        data = self.peer.connection.output()
        if data:
            self.peer.last_sent = self._emulator.settings.clock()
            transport.write(data)
        if self.peer.closed:
            transport.close()
        elif (
            self._reading
            and transport.get_write_buffer_size() > self._emulator.settings.limits.output_bytes_max
        ):
            self._reading = False
            transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])

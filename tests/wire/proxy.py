"""A TCP proxy on loopback that a test makes misbehave: it delays, throttles, cuts, half-opens and refuses on command.

It runs in a thread of its own and is told what to do from any other. What holds for a connection are the proxy's rules
at that moment, one set per direction: "up" is from the client to the service, "down" the way back.

    with TcpProxy(service_port) as proxy:
        connect(proxy.port)
        proxy.swallow("down")  # replies get lost; nobody closes anything
        proxy.heal()
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

from tests.wire.pipe import DIRECTIONS, Direction, Gate, Pipe, Rules

T = TypeVar("T")

_HOST: Final = "127.0.0.1"
_CALL_S: Final = 30.0
_RESET: Final = struct.pack("ii", 1, 0)


class TcpProxy:
    """One listening port in front of one service port.

    Args:
        target: the port of the service on loopback.
        seed: of jitter, and of which connections `cut` picks.
        gate: makes the gate of a connection, if bytes are to be looked into.
    """

    def __init__(self, target: int, *, seed: int = 0, gate: Callable[[], Gate] | None = None) -> None:
        self.target = target
        self.port = 0
        self.accepted = 0
        self.cuts = 0
        self.swallowed: dict[Direction, bytearray] = {"up": bytearray(), "down": bytearray()}
        self.random = random.Random(seed)
        self.rules: dict[Direction, Rules] = {"up": Rules(), "down": Rules()}
        self.gate = gate
        self._connections: dict[Connection, None] = {}
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)

    # ------------------------------------------------------------ life

    def start(self) -> Self:
        """Listen on a free port."""
        self._thread.start()
        self._await(self._listen())
        return self

    def stop(self) -> None:
        """Reset what is open, and end."""
        self._await(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S)
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Side(Connection(self), "up"), _HOST, self.port, reuse_address=True
        )
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _close_listener(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _end(self) -> None:
        await self._close_listener()
        for connection in list(self._connections):
            connection.end(reset=True)
        await asyncio.sleep(0)

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_S)

    def _call(self, function: Callable[[], T]) -> T:
        async def inside() -> T:
            return function()

        return self._await(inside())

    # ------------------------------------------------------------ commands

    @property
    def open(self) -> int:
        """How many connections are open."""
        return self._call(lambda: len(self._connections))

    def waiting(self, direction: Direction) -> int:
        """Return how many bytes of a direction wait to go on."""
        return self._call(
            lambda: sum(connection.pipes[direction].queued_bytes for connection in self._connections)
        )

    def change(self, direction: Direction | None = None, **fields: float | bool) -> None:
        """Change fields of the `Rules` of a direction, or of both."""

        def apply() -> None:
            for name in DIRECTIONS if direction is None else (direction,):
                self.rules[name] = replace(self.rules[name], **fields)
            for connection in list(self._connections):
                connection.rules_changed()

        self._call(apply)

    def delay(self, seconds: float, jitter_s: float = 0.0) -> None:
        """Let every piece take so much longer, each way."""
        self.change(delay_s=seconds, jitter_s=jitter_s)

    def throttle(self, bytes_per_s: float) -> None:
        """Let only so many bytes pass in a second, each way; 0 for any number."""
        self.change(bytes_per_s=bytes_per_s)

    def swallow(self, direction: Direction | None = None) -> None:
        """Throw away what comes, without closing anything: half-open, or dead both ways."""
        self.change(direction, swallow=True)

    def half_open(self) -> int:
        """Let what is open lose all that comes from now on; return how many connections that are.

        Nothing is closed before one of the sides closes it. New connections are good.
        """

        def apply() -> int:
            for connection in self._connections:
                connection.is_deaf = True
            return len(self._connections)

        return self._call(apply)

    def hold(self, direction: Direction | None = None) -> None:
        """Stand still, without losing anything."""
        self.change(direction, hold=True)

    def heal(self) -> None:
        """Do as told no more, and listen again; connections that have lost bytes are reset."""

        def apply() -> None:
            self.rules = {"up": Rules(), "down": Rules()}
            for connection in list(self._connections):
                if connection.has_lost:
                    connection.end(reset=True)
                else:
                    connection.rules_changed()

        self._call(apply)
        self.listen()

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        self._await(self._close_listener())

    def listen(self) -> None:
        """Take new connections again, on the same port."""
        if self._server is None:
            self._await(self._listen())

    def cut(self, count: int | None = None, *, reset: bool = True) -> int:
        """Cut so many connections, picked by the seed, or all; with RST or with FIN. Return how many it were."""

        def apply() -> int:
            chosen = list(self._connections)
            if count is not None and count < len(chosen):
                chosen = self.random.sample(chosen, count)
            for connection in chosen:
                connection.end(reset=reset)
            self.cuts += len(chosen)
            return len(chosen)

        return self._call(apply)

    # ------------------------------------------------------------ for its connections

    def opened(self, connection: Connection) -> None:
        """Note a connection."""
        self.accepted += 1
        self._connections[connection] = None

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.pop(connection, None)


class Connection:
    """The two sides of one connection and the pipes between them."""

    def __init__(self, proxy: TcpProxy) -> None:
        self.proxy = proxy
        self.gate = None if proxy.gate is None else proxy.gate()
        self.has_lost = False
        self.is_deaf = False
        self._ended = False
        self._sides: dict[Direction, Side] = {}
        self._dial: asyncio.Task[None] | None = None
        self.pipes: dict[Direction, Pipe] = {name: Pipe(self, name) for name in DIRECTIONS}

    def begin(self, client: Side) -> None:
        """Connect to the service; what the client says meanwhile waits."""
        self._sides["up"] = client
        self.proxy.opened(self)
        self._dial = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: Side(self, "down"), _HOST, self.proxy.target
            )
        except OSError:
            # Nobody listens there: so it is for the client.
            self.end(reset=True)

    def connected(self, service: Side) -> None:
        """Let bytes flow."""
        self._sides["down"] = service
        if self._ended:
            service.close(reset=True)
        self.rules_changed()

    def rules_changed(self) -> None:
        """Go by the rules as they are now."""
        for pipe in self.pipes.values():
            pipe.rules_changed()

    def source(self, direction: Direction) -> Side | None:
        """Return where bytes of a direction come from."""
        return self._sides.get(direction)

    def sink(self, direction: Direction) -> Side | None:
        """Return where bytes of a direction go to."""
        return self._sides.get("down" if direction == "up" else "up")

    def end(self, *, reset: bool) -> None:
        """Close both sides."""
        self._ended = True
        self.proxy.closed(self)
        for side in self._sides.values():
            side.close(reset=reset)

    def lost(self, side: Side) -> None:
        """One side is gone for good; so the other is, unless words get lost."""
        rules = self.proxy.rules[side.direction]
        if self._ended or rules.swallow or rules.hold:
            return
        self.end(reset=side.was_reset)


class Side(asyncio.Protocol):
    """One of the two TCP connections; `direction` is that of the bytes it brings."""

    def __init__(self, connection: Connection, direction: Direction) -> None:
        self.connection = connection
        self.direction: Direction = direction
        self.was_reset = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start."""
        self._transport = cast("asyncio.Transport", transport)
        if self.direction == "up":
            self.connection.begin(self)
        else:
            self.connection.connected(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self.connection.pipes[self.direction].feed(data)

    def eof_received(self) -> bool:
        """Hand on the end of what this side has to say, but keep listening for it."""
        if self.connection.is_deaf:
            self.connection.end(reset=True)
            return False
        self.connection.pipes[self.direction].feed(None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.was_reset = exc is not None
        self.connection.lost(self)

    def pause_writing(self) -> None:
        """This side reads too slowly: read less from the other."""
        self.connection.pipes["down" if self.direction == "up" else "up"].set_congested(True)

    def resume_writing(self) -> None:
        """It has caught up."""
        self.connection.pipes["down" if self.direction == "up" else "up"].set_congested(False)

    def write(self, data: bytes | None) -> None:
        """Send bytes, or the end of them."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if data is None:
            with contextlib.suppress(OSError):  # it is gone already
                transport.write_eof()
        else:
            transport.write(data)

    def set_reading(self, reading: bool) -> None:
        """Read or do not."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if reading:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def close(self, *, reset: bool) -> None:
        """End with RST or FIN."""
        transport = self._transport
        if transport is None:
            return
        if reset:
            sock = cast("socket.socket | None", transport.get_extra_info("socket"))
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
        else:
            transport.close()

"""What becomes of the bytes of one direction of a proxied connection: they pass, wait, get lost or are looked into."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from tests.wire.proxy import Connection

Direction = Literal["up", "down"]
DIRECTIONS: Final[tuple[Direction, ...]] = ("up", "down")

_QUEUED_BYTES_MAX: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rules:
    """What becomes of the bytes of one direction.

    Attributes:
        delay_s: how long each piece is under way.
        jitter_s: up to so much more, by the proxy's seed; the order stays.
        bytes_per_s: how many pass in a second; 0 for any number.
        swallow: they are read and thrown away, as if the other end had gone without a word.
        hold: they wait, and go on when that ends, as in a network that stands still for a while.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    swallow: bool = False
    hold: bool = False


class Gate(Protocol):
    """Looks into the bytes of one connection and decides what goes on (`http_gate.py` has one)."""

    def up(self, data: bytes) -> bytes:
        """Return what of it goes to the service."""
        ...

    def down(self, data: bytes) -> bytes:
        """Return what of it goes to the client."""
        ...

    def take_reply(self) -> bytes:
        """Return, once, what the client is told instead of by the service."""
        ...

    @property
    def cut(self) -> bool:
        """Whether the connection has to be reset now."""
        ...


class Pipe:
    """The bytes of one direction of a connection, under the proxy's rules."""

    def __init__(self, connection: Connection, direction: Direction) -> None:
        self._connection = connection
        self._direction: Direction = direction
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self.queued_bytes = 0
        self._free_at = 0.0
        self._congested = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def _rules(self) -> Rules:
        return self._connection.proxy.rules[self._direction]

    def feed(self, data: bytes | None) -> None:
        """Take bytes, or their end (`None`)."""
        rules = self._rules
        if rules.swallow or self._connection.is_deaf:
            self._connection.has_lost = True
            self._connection.proxy.swallowed[self._direction] += data or b""
            return
        slowed = rules.delay_s or rules.jitter_s or rules.bytes_per_s
        if self._queue or rules.hold or slowed or self._connection.sink(self._direction) is None:
            self._enqueue(data, rules)
        else:
            self._deliver(data)

    def _enqueue(self, data: bytes | None, rules: Rules) -> None:
        now = asyncio.get_running_loop().time()
        due = max(now, self._free_at) + rules.delay_s
        if rules.jitter_s:
            due += self._connection.proxy.random.uniform(0.0, rules.jitter_s)
        if rules.bytes_per_s and data:
            self._free_at = max(now, self._free_at) + len(data) / rules.bytes_per_s
            due = max(due, self._free_at)
        if self._queue:
            due = max(due, self._queue[-1][0])
        self._queue.append((due, data))
        self.queued_bytes += len(data or b"")
        self._pump()

    def rules_changed(self) -> None:
        """Go by the rules as they are now."""
        self._pump()

    def _pump(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        rules = self._rules
        while self._queue and self._connection.sink(self._direction) is not None:
            if rules.swallow or self._connection.is_deaf:
                self._connection.has_lost = True
                self._queue.clear()
                self.queued_bytes = 0
                break
            due, data = self._queue[0]
            if rules.hold:
                break
            if due > loop.time():
                self._timer = loop.call_at(due, self._pump)
                break
            self._queue.popleft()
            self.queued_bytes -= len(data or b"")
            self._deliver(data)
        self._set_reading()

    def _deliver(self, data: bytes | None) -> None:
        connection = self._connection
        gate = connection.gate
        sink, source = connection.sink(self._direction), connection.source(self._direction)
        if sink is None:
            return
        if gate is not None and data is not None:
            data = gate.up(data) if self._direction == "up" else gate.down(data)
            reply = gate.take_reply()
            client = source if self._direction == "up" else sink
            if reply and client is not None:
                client.write(reply)
            if gate.cut:
                connection.end(reset=True)
                return
        if data is None or data:
            sink.write(data)

    def set_congested(self, congested: bool) -> None:
        """Note whether the sink takes no more for now."""
        self._congested = congested
        self._set_reading()

    def _set_reading(self) -> None:
        source = self._connection.source(self._direction)
        if source is not None:
            source.set_reading(not (self._congested or self.queued_bytes > _QUEUED_BYTES_MAX))

"""Makes messages vanish on their way to a client: a gate of `TcpProxy` that drops whole AMQP transfers.

To the broker a message was delivered and is locked; the client's SDK never saw it, and the session is kept. That is how
the SDK swallowing a message looks from outside.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

# A frame of type AMQP whose body begins with the descriptor of a transfer.
_TRANSFER: Final = b"\x00\x53\x14"
_HEADER_BYTES: Final = 8
# Transfers of the links that claims and renewals are answered on are smaller than a message with its annotations.
_MESSAGE_MARK: Final = b"x-opt-sequence-number"


@dataclass
class AmqpRules:
    """How many messages are to vanish, shared by the connections of a proxy. Safe to use from any thread."""

    left: int = 0
    dropped: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def drop_transfers(self, count: int) -> None:
        """Let the next messages vanish."""
        with self._lock:
            self.left += count

    def takes(self, frame: bytes) -> bool:
        """Return whether a frame is to vanish."""
        if not frame[_HEADER_BYTES:].startswith(_TRANSFER) or _MESSAGE_MARK not in frame:
            return False
        with self._lock:
            if not self.left:
                return False
            self.left -= 1
            self.dropped += 1
            return True

    def gate(self) -> AmqpGate:
        """Make the gate of one connection."""
        return AmqpGate(self)


class AmqpGate:
    """Follows the frames a service sends on one connection."""

    def __init__(self, rules: AmqpRules) -> None:
        self._rules = rules
        self._buffer = b""
        self.cut = False

    def up(self, data: bytes) -> bytes:
        """Return what of it goes to the service: all."""
        return data

    def down(self, data: bytes) -> bytes:
        """Return what of it goes to the client, frame by frame."""
        self._buffer += data
        passed = b""
        while len(self._buffer) >= _HEADER_BYTES:
            # A protocol header takes the place of a frame, and is as long as a frame's header.
            is_header = self._buffer.startswith(b"AMQP")
            size = _HEADER_BYTES if is_header else int.from_bytes(self._buffer[:4])
            if len(self._buffer) < size:
                break
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            if is_header or not self._rules.takes(frame):
                passed += frame
        return passed

    def take_reply(self) -> bytes:
        """Return nothing: only the service speaks."""
        return b""

"""A connection of AMQP 1.0 without I/O: bytes in, events and bytes out.

`receive` takes whatever the peer sent and returns what it means; `output` gives the bytes to send. A peer that breaks
the protocol gets a close with the error, and the connection is over; nothing is raised. In the manner of h11.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from durabletask_azure.emulator.amqp.encode import encode_composite
from durabletask_azure.emulator.amqp.events import (
    ConnectionClosed,
    ConnectionOpened,
    Event,
    LinkDetached,
)
from durabletask_azure.emulator.amqp.frames import (
    AMQP_HEADER,
    EMPTY_FRAME,
    FRAME_AMQP,
    FRAME_BYTES_MIN,
    FRAME_SASL,
    HEADER_BYTES,
    SASL_HEADER,
    FrameReader,
    build_frame,
)
from durabletask_azure.emulator.amqp.performatives import (
    Attach,
    Begin,
    Close,
    Detach,
    Disposition,
    End,
    Flow,
    Open,
    Performative,
    SaslInit,
    Transfer,
    decode_performative,
)
from durabletask_azure.emulator.amqp.session import Session
from durabletask_azure.emulator.amqp.states import encode_error, read_error
from durabletask_azure.emulator.amqp.types import (
    AmqpError,
    Array,
    Symbol,
    UByte,
    UInt,
    UShort,
    Value,
)

CHANNEL_MAX: Final = 255
_SASL_MECHANISMS: Final = 0x40
_SASL_OUTCOME: Final = 0x44
_SASL_OK: Final = 0
_SASL_AUTH: Final = 1

Authenticate = Callable[[str, bytes], bool]


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """What we tell a peer when a connection opens.

    Attributes:
        container_id: our name.
        frame_bytes_max: the largest frame we take; Azure says 65,536.
        idle_timeout_ms: after how long a silence we close the connection.
    """

    container_id: str = "servicebus-emulator"
    frame_bytes_max: int = 65_536
    idle_timeout_ms: int = 240_000


class State(Enum):
    """Where a connection is."""

    HEADER = "the first protocol header"
    SASL = "the choice of a SASL mechanism"
    HEADER_AFTER_SASL = "the AMQP header"
    OPENING = "open"
    OPEN = "frames"
    CLOSED = "nothing"


class AmqpConnection:
    """The broker's side of one connection.

    Args:
        settings: what we say of ourselves.
        authenticate: judges a SASL mechanism and its initial response.
    """

    def __init__(self, settings: ConnectionSettings, authenticate: Authenticate) -> None:
        self.state = State.HEADER
        self.remote_idle_timeout_s = 0.0
        self.hostname = ""
        self._settings = settings
        self._authenticate = authenticate
        self._reader = FrameReader(settings.frame_bytes_max)
        self._remote_frame_bytes_max = FRAME_BYTES_MIN
        self._sessions: dict[int, Session] = {}
        # A peer may go on for a moment on a channel it has ended (the SDK does); nobody listens.
        self._ended: set[int] = set()
        self._out: list[bytes] = []

    # ------------------------------------------------------------ bytes

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes of the peer and return what they mean, in order."""
        events: list[Event] = []
        self._reader.feed(data)
        try:
            while self.state is not State.CLOSED and self._step(events):
                pass
        except AmqpError as error:
            events += self.fail(error)
        return events

    def output(self) -> bytes:
        """Return the bytes to send, once."""
        if not self._out:
            return b""
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return data

    def keep_alive(self) -> None:
        """Send a frame that says nothing."""
        if self.state is State.OPEN:
            self._out.append(EMPTY_FRAME)

    def fail(self, error: AmqpError | None) -> list[Event]:
        """Close the connection from our side, with or without an error."""
        if self.state is State.CLOSED:
            return []
        if self.state is State.OPEN:
            fields: list[Value] = [encode_error(error) if error else None]
            self._send(0, encode_composite(Close.code, fields))
        return [*self.cut(), ConnectionClosed(error)]

    def cut(self) -> list[Event]:
        """End everything without another word: the peer is gone."""
        self.state = State.CLOSED
        events: list[Event] = []
        for session in self._sessions.values():
            events += self._end_links(session, cut=True)
        self._sessions.clear()
        return events

    @property
    def has_links(self) -> bool:
        """Whether any link is attached."""
        return any(session.links for session in self._sessions.values())

    def _send(self, channel: int, body: bytes, kind: int = FRAME_AMQP) -> None:
        self._out.append(build_frame(channel, body, kind))

    # ------------------------------------------------------------ steps

    def _step(self, events: list[Event]) -> bool:
        """Take one header or frame; tell whether there was one."""
        if self.state in (State.HEADER, State.HEADER_AFTER_SASL):
            header = self._reader.take(HEADER_BYTES)
            if header is not None:
                self._header(header, events)
            return header is not None
        frame = self._reader.frame()
        if frame is None:
            return False
        kind, channel, body = frame
        if self.state is State.SASL:
            self._sasl(kind, body, events)
        elif kind != FRAME_AMQP:
            raise AmqpError("amqp:connection:framing-error", "a SASL frame came after SASL was over")
        elif body:
            performative, end = decode_performative(body)
            events += self._frame(channel, performative, body[end:])
        return True

    def _header(self, header: bytes, events: list[Event]) -> None:
        if header == SASL_HEADER and self.state is State.HEADER:
            self._out.append(SASL_HEADER)
            mechanisms = Array(tuple(Symbol(name) for name in ("ANONYMOUS", "PLAIN", "EXTERNAL", "MSSBCBS")))
            self._send(0, encode_composite(_SASL_MECHANISMS, [mechanisms]), FRAME_SASL)
            self.state = State.SASL
        elif header == AMQP_HEADER:
            self._out.append(AMQP_HEADER)
            self.state = State.OPENING
        else:
            # The specification asks to answer with a header we would take, and to hang up (2.2).
            self._out.append(AMQP_HEADER)
            error = AmqpError("amqp:connection:framing-error", "the peer does not speak AMQP 1.0")
            events += [*self.cut(), ConnectionClosed(error)]

    def _sasl(self, kind: int, body: bytes, events: list[Event]) -> None:
        init = decode_performative(body)[0] if kind == FRAME_SASL else None
        if not isinstance(init, SaslInit):
            raise AmqpError("amqp:connection:framing-error", "a SASL mechanism was expected")
        good = self._authenticate(init.mechanism, init.initial_response or b"")
        code = UByte(_SASL_OK if good else _SASL_AUTH)
        self._send(0, encode_composite(_SASL_OUTCOME, [code]), FRAME_SASL)
        if good:
            self.state = State.HEADER_AFTER_SASL
        else:
            error = AmqpError("amqp:unauthorized-access", "SASL authentication failed")
            events += [*self.cut(), ConnectionClosed(error)]

    def _frame(self, channel: int, performative: Performative, payload: bytes) -> list[Event]:
        if channel in self._ended and not isinstance(performative, (Begin, Open, Close)):
            return []
        match performative:
            case Transfer():
                return self._session(channel).transfer(performative, payload)
            case Disposition():
                return self._session(channel).disposition(performative)
            case Flow():
                return self._session(channel).flow(performative)
            case Attach():
                return self._session(channel).attach(performative)
            case Detach():
                return self._session(channel).detach(performative)
            case Open():
                return self._open(performative)
            case Begin():
                return self._begin(channel, performative)
            case End():
                return self._end(channel)
            case Close():
                if self.state is State.OPEN:
                    self._send(0, encode_composite(Close.code, []))
                return [*self.cut(), ConnectionClosed(read_error(performative.error))]
            case _:
                raise AmqpError("amqp:not-allowed", f"{type(performative).__name__} is not allowed here")

    def _session(self, channel: int) -> Session:
        session = self._sessions.get(channel)
        if session is None:
            raise AmqpError("amqp:not-allowed", f"channel {channel} has no session")
        return session

    def _open(self, open_: Open) -> list[Event]:
        if self.state is not State.OPENING:
            raise AmqpError("amqp:not-allowed", "the connection is open already")
        frame_bytes_max = self._settings.frame_bytes_max
        if open_.max_frame_size is not None:
            if open_.max_frame_size < FRAME_BYTES_MIN:
                raise AmqpError("amqp:invalid-field", f"frames have at least {FRAME_BYTES_MIN} bytes")
            frame_bytes_max = min(open_.max_frame_size, frame_bytes_max)
        self._remote_frame_bytes_max = frame_bytes_max
        self.remote_idle_timeout_s = (open_.idle_time_out or 0) / 1000
        self.hostname = open_.hostname or ""
        fields: list[Value] = [
            self._settings.container_id,
            None,
            UInt(self._settings.frame_bytes_max),
            UShort(CHANNEL_MAX),
            UInt(self._settings.idle_timeout_ms),
        ]
        self._send(0, encode_composite(Open.code, fields))
        self.state = State.OPEN
        return [ConnectionOpened()]

    def _begin(self, channel: int, begin: Begin) -> list[Event]:
        if self.state is not State.OPEN:
            raise AmqpError("amqp:not-allowed", "the connection is not open")
        if channel in self._sessions or channel > CHANNEL_MAX:
            raise AmqpError("amqp:not-allowed", f"channel {channel} cannot have another session")
        self._ended.discard(channel)
        session = Session(begin, channel, self._send, self._remote_frame_bytes_max)
        self._sessions[channel] = session
        session.begin(channel)
        return []

    def _end(self, channel: int) -> list[Event]:
        session = self._session(channel)
        del self._sessions[channel]
        self._ended.add(channel)
        self._send(channel, encode_composite(End.code, []))
        return self._end_links(session, cut=False)

    @staticmethod
    def _end_links(session: Session, cut: bool) -> list[Event]:
        events: list[Event] = []
        for link in session.links:
            link.attached = False
            events.append(LinkDetached(link, cut=cut))
        return events

"""The limits of the emulator, each with its unit. The defaults are Azure's for the Standard tier, where it has one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What the emulator allows.

    Attributes:
        message_bytes_max: the largest message, or batch of messages.
        batch_bytes_max: the largest batch, which senders are told.
        connections_max: connections at once.
        frame_bytes_max: the largest frame taken.
        idle_timeout_s: a connection that sends nothing for so long is closed.
        never_used_timeout_s: a connection that never had a link is closed after so long.
        unused_timeout_s: a connection without a link any more is closed after so long.
        link_idle_timeout_s: a link nothing happens on is detached after so long.
        session_wait_s: how long a receiver waits for a session if it does not say.
        output_bytes_max: bytes waiting for a peer before it is not read any more.
        responses_max: answers waiting for credit on one link.
        session_state_bytes_max: the largest session state.
        request_bytes_max: the largest request of the administration API.
    """

    message_bytes_max: int = 262_144
    batch_bytes_max: int = 262_144
    connections_max: int = 5000
    frame_bytes_max: int = 65_536
    idle_timeout_s: float = 240.0
    never_used_timeout_s: float = 60.0
    unused_timeout_s: float = 300.0
    link_idle_timeout_s: float = 600.0
    session_wait_s: float = 65.0
    output_bytes_max: int = 4_194_304
    responses_max: int = 1000
    session_state_bytes_max: int = 262_144
    request_bytes_max: int = 1_048_576

"""What went over the wire, counted: the operations that Service Bus bills and the links that were opened for them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WireCounters"]


@dataclass(slots=True)
class WireCounters:
    """Counts since the queues were opened. They are written by the links' thread alone and may be read at any time."""

    messages_sent: int = 0
    """Broker messages sent; a pack is one."""
    events_sent: int = 0
    """What they carried: messages to instances, and activity tasks."""
    sends: int = 0
    """Calls that sent them; a batch is one."""
    scheduled: int = 0
    """Messages scheduled so that they can be cancelled (they count as sent too)."""
    cancelled: int = 0
    """Scheduled messages that were cancelled."""
    messages_received: int = 0
    """Broker messages received, dead letters left out."""
    completed: int = 0
    """Broker messages completed."""
    abandoned: int = 0
    """Broker messages given back."""
    dead_lettered: int = 0
    """Broker messages put aside."""
    renewed: int = 0
    """Locks renewed, of sessions and of tasks."""
    links_opened: int = 0
    """Senders and receivers opened; each is a connection."""
    links_open: int = 0
    """Senders and receivers that are open now."""
    accepts_refused: int = 0
    """Sessions asked for while another holder had them."""
    sessions_lost: int = 0
    """Sessions that ended otherwise than by being closed."""

"""What a queue needs from outside, and what its parts share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from durabletask_azure.emulator.amqp.message import Content
from durabletask_azure.emulator.broker.journal import Journal

if TYPE_CHECKING:
    from durabletask_azure.emulator.broker.queue import Queue


@dataclass(slots=True)
class Usage:
    """The bytes in a queue with its sub-queues."""

    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a queue needs from outside.

    Attributes:
        clock: seconds since 1970.
        journal: keeps changes.
        alarm: asks that `tick` of a queue be called at a time.
        forward: sends a message on to the queue of a name; False if there is none.
        token_prefix: eight bytes no other start of the broker shares, for lock tokens.
    """

    clock: Callable[[], float]
    journal: Journal
    alarm: Callable[[Queue, float], None]
    forward: Callable[[str, Content], bool]
    token_prefix: Callable[[], bytes]

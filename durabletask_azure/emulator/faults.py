"""Faults on request: what a test wants to go wrong, where, and how often.

A fault waits for an operation on an address, lets `skip` of them pass, hits `count` of them, and is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Final

from durabletask_azure.emulator.amqp.types import AmqpError

THROTTLED_S: Final = 2.0


class FaultKind(Enum):
    """What goes wrong."""

    DROP_CONNECTION = "drop-connection"
    DROP_LINK = "drop-link"
    DELAY = "delay"
    REFUSE = "refuse"
    THROTTLE = "throttle"
    SWALLOW_REPLY = "swallow-reply"


class Operation(Enum):
    """Where it goes wrong."""

    ATTACH = "attach"
    SEND = "send"
    SETTLE = "settle"
    MANAGE = "manage"


@dataclass(slots=True)
class Fault:
    """A fault.

    Attributes:
        kind: what goes wrong. `SWALLOW_REPLY` does what was asked and says nothing; `REFUSE`, `THROTTLE` and the drops
            do not do it; `DELAY` does it late.
        operation: where.
        entity: the queue, as a pattern (`*` and `?`) in lower case.
        count: how many operations it hits.
        skip: how many it lets pass first.
        seconds: how long a delay is.
        condition: the error's condition of `REFUSE`.
        description: its description.
    """

    kind: FaultKind
    operation: Operation
    entity: str = "*"
    count: int = 1
    skip: int = 0
    seconds: float = 0.0
    condition: str = "amqp:internal-error"
    description: str = "refused by a fault a test asked for"

    @property
    def error(self) -> AmqpError:
        """The error a peer is told."""
        if self.kind is FaultKind.THROTTLE:
            return AmqpError(
                "com.microsoft:server-busy",
                f"The request was terminated because the namespace is being throttled. Error code: 50009. Please wait"
                f" {THROTTLED_S:g} seconds and try again.",
            )
        if self.kind is FaultKind.DROP_LINK:
            return AmqpError("amqp:link:detach-forced", "the link was dropped by a fault a test asked for")
        return AmqpError(self.condition, self.description)


class Faults:
    """The faults that wait."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let a fault wait for its operation."""
        if fault.count < 1 or fault.skip < 0 or fault.seconds < 0:
            raise ValueError(
                "a fault hits at least 1 operation, and lets 0 or more pass, after 0 seconds or more"
            )
        self._faults.append(fault)

    def clear(self) -> None:
        """Forget every fault."""
        self._faults.clear()

    @property
    def waiting(self) -> list[Fault]:
        """The faults that have not hit everything yet."""
        return list(self._faults)

    def take(self, operation: Operation, entity: str) -> Fault | None:
        """Return the fault that hits an operation, if one does."""
        if not self._faults:
            return None
        entity = entity.casefold()
        for fault in self._faults:
            if fault.operation is not operation or not fnmatchcase(entity, fault.entity.casefold()):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            fault.count -= 1
            if fault.count == 0:
                self._faults.remove(fault)
            return fault
        return None

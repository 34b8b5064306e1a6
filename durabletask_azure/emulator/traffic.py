"""What went over the wire, counted by queue: how much a program costs is read here, not in the program."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class QueueTraffic:
    """What clients did with one queue since the emulator started, or since the counts were cleared.

    Attributes:
        sends: transfers that brought messages, each a single message or a batch.
        messages: messages they brought; those scheduled by a request of their own are among them.
        bytes: what those messages came to, encoded.
        deliveries: messages given to receivers, again ones included.
        settlements: dispositions of receivers.
        attaches: links made to the queue.
        requests: requests of `$management`, by operation.
    """

    sends: int = 0
    messages: int = 0
    bytes: int = 0
    deliveries: int = 0
    settlements: int = 0
    attaches: int = 0
    requests: Counter[str] = field(default_factory=Counter[str])


class Traffic:
    """The counts of all queues."""

    def __init__(self) -> None:
        self._queues: dict[str, QueueTraffic] = {}

    def of(self, path: str) -> QueueTraffic:
        """Return the counts of a queue, to be added to."""
        found = self._queues.get(path)
        if found is None:
            found = self._queues[path] = QueueTraffic()
        return found

    def clear(self) -> None:
        """Begin anew."""
        self._queues.clear()

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Return the counts by queue."""
        return {
            path: {name: getattr(counts, name) for name in counts.__slots__}
            for path, counts in sorted(self._queues.items())
        }

"""The turns of a batch until they are committed, and what of the broker's messages they came from is then over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from durabletask_azure.core.instance import Instance
from durabletask_azure.core.turn import Turn
from durabletask_azure.engine.inbox import Item, Open
from durabletask_azure.ports import Delivery

__all__ = ["Work", "attempts_at", "closing_of"]


@dataclass(slots=True)
class Work:
    """A batch that was run: the turns, with the items each handled."""

    n: int
    epoch: int
    turns: list[tuple[Turn, list[Item]]] = field(default_factory=list[tuple[Turn, list[Item]]])
    pinned: list[Instance] = field(default_factory=list[Instance])

    def add(self, turn: Turn, items: list[Item]) -> None:
        """Add one instance's turn."""
        self.turns.append((turn, items))

    def items(self) -> list[Item]:
        """All items of the batch."""
        return [item for _, items in self.turns for item in items]


def closing_of(items: Iterable[Item]) -> list[Delivery]:
    """Return the deliveries of which these items are all that is left."""
    counts: dict[int, tuple[Open, int]] = {}
    for item in items:
        if item.origin is not None:
            _, count = counts.get(id(item.origin), (item.origin, 0))
            counts[id(item.origin)] = (item.origin, count + 1)
    return [origin.delivery for origin, count in counts.values() if origin.left == count]


def attempts_at(items: Iterable[Item], closing: Iterable[Delivery]) -> set[str]:
    """Return what attempts at these items were noted under, as far as they are over."""
    return {item.attempt_key for item in items if item.origin is None} | {one.id for one in closing}

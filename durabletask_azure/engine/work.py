"""The turns of a batch until they are committed, and what of the broker's messages they came from is then over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from durabletask_azure.core.instance import Instance
from durabletask_azure.core.turn import Turn
from durabletask_azure.engine.inbox import Item
from durabletask_azure.ports import Delivery

__all__ = ["Work", "closing_of", "settle"]


@dataclass(slots=True)
class Work:
    """A batch that was run: the turns, with the items each handled."""

    n: int
    epoch: int
    turns: list[tuple[Turn, list[Item]]] = field(default_factory=list[tuple[Turn, list[Item]]])
    pinned: list[Instance] = field(default_factory=list[Instance])

    def items(self) -> list[Item]:
        """All items of the batch."""
        return [item for _, items in self.turns for item in items]


def closing_of(items: Iterable[Item]) -> list[Delivery]:
    """Return the deliveries of which these items are all that is left."""
    closing: list[Delivery] = []
    counts: dict[int, int] = {}
    for item in items:
        origin = item.origin
        if origin is None:
            continue
        count = 1
        if origin.left > 1:  # of a pack
            count = counts[id(origin)] = counts.get(id(origin), 0) + 1
        if origin.left == count:
            closing.append(origin.delivery)
    return closing


def settle(items: Iterable[Item]) -> None:
    """Note that items are done with."""
    for item in items:
        if item.origin is not None:
            item.origin.left -= 1

"""The turns of a batch until they are committed, and what of the broker's messages they came from is then over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from durabletask_azure.core.instance import Instance
from durabletask_azure.core.turn import Turn
from durabletask_azure.engine.inbox import Item
from durabletask_azure.ports import Delivery

__all__ = ["Attempts", "Work", "closing_of", "settle"]


@dataclass(slots=True)
class Work:
    """A batch that was run: the turns, and beside each the items it handled."""

    n: int
    epoch: int
    turns: list[Turn] = field(default_factory=list[Turn])
    handled: list[list[Item]] = field(default_factory=list[list[Item]])
    pinned: list[Instance] = field(default_factory=list[Instance])
    is_plain: bool = False
    """Whether there are turns, and all of them are plain."""

    def items(self) -> list[Item]:
        """All items of the batch."""
        return [item for items in self.handled for item in items]

    def items_of(self, turns: Sequence[Turn]) -> list[Item]:
        """The items that these of its turns handled."""
        if turns is self.turns:
            return self.items()
        handled = dict(zip(map(id, self.turns), self.handled, strict=True))
        return [item for turn in turns for item in handled[id(turn)]]


def closing_of(items: Iterable[Item]) -> list[Delivery]:
    """Return the deliveries of which these items are all that is left."""
    closing: list[Delivery] = []
    counts: dict[int, int] = {}
    for item in items:
        origin = item.origin
        if origin is None:
            continue
        if origin.left > 1:  # of a pack
            count = counts[id(origin)] = counts.get(id(origin), 0) + 1
            if origin.left > count:
                continue
        closing.append(origin.delivery)
    return closing


def settle(items: Iterable[Item]) -> None:
    """Note that items are done with."""
    for item in items:
        origin = item.origin
        if origin is not None:
            origin.left -= 1


class Attempts:
    """What this partition's owners began to handle by itself and did not end, and how often: as the lock row has it.

    One attempt is under way at a time. What is noted and stays noted is what a process ended over.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._current: tuple[str, int] | None = None

    def __bool__(self) -> bool:
        return bool(self._counts)

    def __contains__(self, key: str) -> bool:
        return key in self._counts

    def take_over(self, noted: Iterable[tuple[str, int]]) -> None:
        """Start from what the last owner noted."""
        self._counts = dict(noted)

    def begin(self, key: str) -> int:
        """Note one more; return how many there were."""
        before = self._counts.get(key, 0)
        self._counts[key] = before + 1
        self._current = (key, before)
        return before

    def end(self) -> None:
        """Take back the one under way if it came to nothing: it may be made again, and no process ended over it."""
        if self._current is not None and self._current[0] in self._counts:
            key, before = self._current
            self._counts[key] = before
            if not before:
                del self._counts[key]
        self._current = None

    def forget(self, items: Iterable[Item]) -> None:
        """Forget those at items that are done with."""
        for item in items if self._counts else ():
            self._counts.pop(item.attempt_key, None)

    def noted(self, done: Iterable[Item] = ()) -> tuple[tuple[str, int], ...]:
        """Return what the lock row is to have, without those at items that are about to be done with."""
        if not self._counts:
            return ()
        keys = {item.attempt_key for item in done}
        return tuple((key, count) for key, count in self._counts.items() if key not in keys)

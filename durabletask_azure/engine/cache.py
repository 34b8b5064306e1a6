"""The warm instances of a worker: least recently used go first, and going means losing the live orchestrator only.

An instance that is part of a commit under way is pinned: its object is one commit ahead of storage and must be found.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from durabletask_azure.core.instance import Instance

__all__ = ["WarmCache"]

Key = tuple[int, str]


class WarmCache:
    """Instances by partition and id, at most ``limit`` of them besides the pinned ones."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._instances: OrderedDict[Key, Instance] = OrderedDict()
        self._pins: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._instances)

    def get(self, partition: int, instance_id: str) -> Instance | None:
        """Return the instance, if it is here, and make it the most recently used."""
        key = (partition, instance_id)
        instance = self._instances.get(key)
        if instance is not None:
            self._instances.move_to_end(key)
        return instance

    def find(self, partition: int, instance_ids: Iterable[str]) -> dict[str, Instance | None]:
        """Return :meth:`get` of each."""
        known = self._instances
        found: dict[str, Instance | None] = {}
        for instance_id in instance_ids:
            key = (partition, instance_id)
            instance = found[instance_id] = known.get(key)
            if instance is not None:
                known.move_to_end(key)
        return found

    def pin(self, partition: int, instances: Iterable[Instance]) -> None:
        """Keep instances at hand until unpinned as often as pinned, cacheable or not."""
        known, pins = self._instances, self._pins
        for instance in instances:
            key = (partition, instance.instance_id)
            known[key] = instance
            pins[key] = pins.get(key, 0) + 1

    def unpin(self, partition: int, instances: Iterable[Instance]) -> None:
        """Let go of one pin of each; what storage may now serve better (absent, pending, terminal) leaves the cache."""
        known, pins = self._instances, self._pins
        for instance in instances:
            key = (partition, instance.instance_id)
            if known.get(key) is not instance:
                continue
            left = pins.pop(key, 1) - 1
            if left > 0:
                pins[key] = left
            elif not instance.is_cacheable:
                del known[key]
                instance.drop_execution()
        if len(known) > self._limit:
            self._make_room()

    def drop(self, partition: int, instance_id: str) -> None:
        """Forget an instance, pinned or not: what it holds is not what storage holds."""
        key = (partition, instance_id)
        self._pins.pop(key, None)
        instance = self._instances.pop(key, None)
        if instance is not None:
            instance.drop_execution()

    def drop_partition(self, partition: int) -> None:
        """Forget everything held of a partition."""
        for key in [key for key in self._instances if key[0] == partition]:
            self.drop(*key)

    def _make_room(self) -> None:
        for key in list(self._instances):
            if len(self._instances) <= self._limit:
                return
            if key not in self._pins:
                self._instances.pop(key).drop_execution()

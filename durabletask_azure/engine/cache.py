"""The warm instances of a worker: least recently used go first, and going means losing the live orchestrator only.

An instance that is part of a batch under way is pinned: its object is one commit ahead of storage and must be found.
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

    def __len__(self) -> int:
        return len(self._instances)

    def get(self, partition: int, instance_id: str) -> Instance | None:
        """Return the instance, if it is here, and make it the most recently used."""
        key = (partition, instance_id)
        instance = self._instances.get(key)
        if instance is not None:
            self._instances.move_to_end(key)
        return instance

    def find(self, partition: int, instance_ids: Iterable[str]) -> tuple[dict[str, Instance | None], bool]:
        """Return :meth:`get` of each, and whether storage will soon serve one of them better (:meth:`unpin`)."""
        known = self._instances
        found: dict[str, Instance | None] = {}
        is_leaving = False
        for instance_id in instance_ids:
            key = (partition, instance_id)
            instance = found[instance_id] = known.get(key)
            if instance is not None:
                known.move_to_end(key)
                if instance.execution is None and not instance.is_cacheable:
                    is_leaving = True
        return found, is_leaving

    def add(self, partition: int, instance: Instance) -> None:
        """Keep an instance that was loaded."""
        self._instances[partition, instance.instance_id] = instance

    def unpin(self, partition: int, instances: Iterable[Instance]) -> None:
        """Let go of one pin of each; what storage may now serve better (absent, pending, terminal) leaves the cache."""
        for instance in instances:
            instance.pins -= 1
            if instance.execution is None and not instance.pins and not instance.is_cacheable:
                key = (partition, instance.instance_id)
                if self._instances.get(key) is instance:  # else it was dropped
                    del self._instances[key]
        if len(self._instances) > self._limit:
            self._make_room()

    def drop(self, partition: int, instance_id: str) -> None:
        """Forget an instance, pinned or not: what it holds is not what storage holds."""
        instance = self._instances.pop((partition, instance_id), None)
        if instance is not None:
            instance.drop_execution()

    def drop_partition(self, partition: int) -> None:
        """Forget everything held of a partition."""
        for key in [key for key in self._instances if key[0] == partition]:
            self.drop(*key)

    def _make_room(self) -> None:
        for key, instance in list(self._instances.items()):
            if len(self._instances) <= self._limit:
                return
            if not instance.pins:
                del self._instances[key]
                instance.drop_execution()

"""The short memory of a lock row: which instances the last commits changed, and which of them ended.

Every commit replaces the lock row anyway, so this costs no request, and whoever waits for any number of instances of a
partition has to read only that one row. An instance is named by four bytes of a hash of its id; one that another's
change is taken for is looked at in vain, nothing worse. The count says how many names there ever were: a reader that
comes too late for some of them sees that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

__all__ = ["CHANGED_MAX", "ENDED_MAX", "Ring", "short_name"]

ENDED_MAX = 256
CHANGED_MAX = 64
_NAME = 4
_COUNT = 8


def short_name(instance_id: str) -> bytes:
    """Return what stands for an instance in a ring."""
    return hashlib.blake2b(instance_id.encode("utf-8", "surrogatepass"), digest_size=_NAME).digest()


class Ring(msgspec.Struct, frozen=True, gc=False):
    """The last names, the newest last, and how many there ever were."""

    count: int = 0
    names: bytes = b""

    @classmethod
    def decode(cls, data: bytes | None) -> Ring:
        """Return a stored ring; an empty one if there is none."""
        if data is None or len(data) < _COUNT:
            return cls()
        return cls(int.from_bytes(data[:_COUNT], "big"), data[_COUNT:])

    def encode(self) -> bytes:
        """Return the stored form."""
        return self.count.to_bytes(_COUNT, "big") + self.names

    def with_names(self, names: Iterable[bytes], longest: int) -> Ring:
        """Return the ring with names added; at most ``longest`` are kept."""
        added = b"".join(names)
        if not added:
            return self
        return Ring(self.count + len(added) // _NAME, (self.names + added)[-longest * _NAME :])

    def since(self, count: int) -> set[bytes] | None:
        """Return the names added since there were ``count``; ``None`` if some of them are gone."""
        new = self.count - count
        if new < 0 or new * _NAME > len(self.names):
            return None
        names = self.names[len(self.names) - new * _NAME :]
        return {names[start : start + _NAME] for start in range(0, len(names), _NAME)}

"""Which partition an instance belongs to: a specified hash, never Python's own (DESIGN 1).

``partition = first 8 bytes, big-endian, of BLAKE2b-64(UTF-8 of the instance id)  mod  P``. P is fixed when a hub is
created, so this rule can never change for an existing hub.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

__all__ = ["PARTITIONS_MAX", "partition_name", "partition_of", "stable_id"]

PARTITIONS_MAX = 128


_blake2b = hashlib.blake2b


@lru_cache(maxsize=8_192)
def partition_of(instance_id: str, partitions: int) -> int:
    """Return the partition, 0 to ``partitions - 1``, that owns ``instance_id``."""
    digest = hashlib.blake2b(instance_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % partitions


def partition_name(partition: int) -> str:
    """Return the Table PartitionKey and Service Bus session id of a partition: ``p007``, lower case."""
    return f"p{partition:03d}"


def stable_id(*parts: object) -> str:
    """Return a 32-character id that depends on nothing but ``parts``: the same message gets the same id on a resend."""
    text = "\x1f".join(map(str, parts))
    return _blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

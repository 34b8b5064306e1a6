"""Which partitions a worker lets go of and which it seeks: fair shares, decided by each worker for itself.

Invariant: workers that see the same rows decide so that no two seek the same partition and nobody releases more than
others lack; repeated, every partition has an owner and every worker holds floor or ceiling of P / W. Rows may be stale
or wrong: that costs time, never safety (the session and the fence decide who owns), and ``probe`` makes up for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec

__all__ = ["Decision", "Member", "decide", "shares"]


class Member(Protocol):
    """A worker as it announced itself."""

    @property
    def worker_id(self) -> str:
        """Its id."""
        ...

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions it says it holds."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether it is on its way out."""
        ...


class Decision(msgspec.Struct, frozen=True):
    """What to do now: give back ``release``, try to accept ``seek`` in this order."""

    release: tuple[int, ...] = ()
    seek: tuple[int, ...] = ()


def shares(worker_ids: Sequence[str], partitions: int) -> dict[str, int]:
    """Return how many partitions each worker shall hold: they differ by at most one, the first ids get the larger."""
    ordered = sorted(worker_ids)
    if not ordered:
        return {}
    least, larger = divmod(partitions, len(ordered))
    return {worker_id: least + (place < larger) for place, worker_id in enumerate(ordered)}


def decide(
    me: str,
    workers: Sequence[Member],
    held: Collection[int],
    partitions: int,
    *,
    stopping: bool = False,
    probe: Collection[int] = (),
) -> Decision:
    """Return what worker ``me``, which holds ``held``, does next about the ``partitions`` of the hub.

    ``workers`` are the announced rows (``me`` counts with ``held``, whatever its row says). ``probe`` are partitions to
    try besides, whatever rows and shares say: in the end every worker tries every partition it does not hold.
    """
    if stopping:
        return Decision(release=tuple(sorted(held)))
    others = {row.worker_id: row.partitions for row in workers if row.worker_id != me and not row.stopping}
    share = shares([me, *others], partitions)
    claimed = set(held).union(*(row.partitions for row in workers if row.worker_id != me))
    free = [partition for partition in range(partitions) if partition not in claimed]

    lacking_before = 0
    lacking_others = 0
    for worker_id in sorted(others):
        lacking = max(0, share[worker_id] - len(others[worker_id]))
        lacking_others += lacking
        if worker_id < me:
            lacking_before += lacking

    surplus = len(held) - share[me]
    if surplus > 0:
        count = min(surplus, max(0, lacking_others - len(free)))
        return Decision(
            release=tuple(sorted(held)[len(held) - count :]),
            seek=tuple(sorted(partition for partition in probe if partition not in held)),
        )
    # Those who lack partitions divide the free ones in order of their ids, so that they do not race for the same.
    wanted = free[lacking_before : lacking_before - surplus]
    more = sorted(partition for partition in probe if partition not in held and partition not in wanted)
    return Decision(seek=(*wanted, *more))

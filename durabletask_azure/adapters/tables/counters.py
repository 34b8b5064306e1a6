"""What an opened table has asked of the service so far: for benchmarks and for people, decided by nothing."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TableCounters"]


@dataclass(slots=True)
class TableCounters:
    """Requests by kind, and what they carried. A request that failed counts too."""

    transactions: int = 0
    transaction_rows: int = 0
    """Rows written by transactions, lock rows included."""
    transaction_bytes: int = 0
    """What those rows held, in the form they are sent."""
    point_reads: int = 0
    queries: int = 0
    """Pages asked for."""
    query_rows: int = 0
    inserts: int = 0
    replaces: int = 0
    """Single rows replaced or inserted in place of an older one."""
    deletes: int = 0
    wakes: int = 0
    """Waiting clients woken by a commit of this process."""
    looks: int = 0
    """Lock rows read for waiting clients; they count as point reads as well."""

    @property
    def requests(self) -> int:
        """All requests together."""
        single = self.point_reads + self.inserts + self.replaces + self.deletes
        return self.transactions + self.queries + single

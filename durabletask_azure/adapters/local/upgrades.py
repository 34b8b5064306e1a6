"""What a hub file of an earlier version lacks, added when it is opened.

Only what earlier versions can live with is added here: they keep working on the file, also at the same time. So the
schema version stays as it is; a change that they could not live with would raise it.
"""

from __future__ import annotations

import sqlite3

__all__ = ["ADDED_INDEXES", "add_missing"]

ADDED_INDEXES = {
    # Counts per status, runs that ended before a moment, and few instances of a status among many. The keys grow with
    # time, so it is written to at its ends: about 2 us per write of an instance row, where an index that ends with the
    # instance id (random keys) takes 7 to 15 (decisions/0010).
    "instances_by_status": "CREATE INDEX IF NOT EXISTS instances_by_status"
    " ON instances(partition, status, completed_at)",
}
"""Indexes that came after the first version, by name."""


def add_missing(connection: sqlite3.Connection) -> None:
    """Add what is missing; takes seconds per million instances, once, while others wait to write.

    Raises:
        sqlite3.Error: as SQLite says.
    """
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    missing = [statement for name, statement in ADDED_INDEXES.items() if name not in there]
    if not missing:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in missing:
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise

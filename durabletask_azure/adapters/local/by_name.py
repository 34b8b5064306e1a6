"""Taking activity tasks by the activity's name, for workers that take some activities only.

The rows have no column for the name: an index on an expression reads it from the task. It is made when the first such
worker starts, so a hub whose workers take everything pays nothing for it. A task that cannot be read has the name "",
which every worker takes: somebody has to put it aside.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from durabletask_azure.adapters.local.committer import Transaction
from durabletask_azure.adapters.local.reader import Reader

__all__ = ["any_free_of", "free_of", "index_names"]

_UNREADABLE = ""
_TEXT = "CAST(body AS TEXT)"
_NAME = (
    f"CASE WHEN json_valid({_TEXT}) AND json_type({_TEXT}, '$.name') = 'text'"
    f" THEN json_extract({_TEXT}, '$.name') ELSE '{_UNREADABLE}' END"
)
_INDEX = f"CREATE INDEX IF NOT EXISTS tasks_free_by_name ON tasks(grp, {_NAME}, seq) WHERE locked_by IS NULL"
_FREE = f"FROM tasks INDEXED BY tasks_free_by_name WHERE grp = ? AND {_NAME}"
_ANY_FREE = f"SELECT 1 {_FREE} IN (SELECT value FROM json_each(?)) AND locked_by IS NULL LIMIT 1"  # noqa: S608
_FIRST_FREE = f"SELECT seq {_FREE} = ? AND locked_by IS NULL ORDER BY seq LIMIT ?"


def index_names(transaction: Transaction) -> None:
    """Make the index that the other functions need, if there is none."""
    transaction.execute(_INDEX)


def any_free_of(reader: Reader, group: str, names: Collection[str]) -> bool:
    """Return whether a group has a free task of one of these activities."""
    wanted = msgspec.json.encode([*names, _UNREADABLE]).decode()
    return bool(reader.row(_ANY_FREE, (group, wanted)))


def free_of(transaction: Transaction, group: str, names: Collection[str], count_max: int) -> list[int]:
    """Return the places of the first free tasks of these activities in a group, in the order they were sent."""
    found: list[int] = []
    for name in (*names, _UNREADABLE):
        # Name by name, each from its place in the index: tasks of other names are never looked at.
        found.extend(place for (place,) in transaction.execute(_FIRST_FREE, (group, name, count_max)))
    return sorted(found)[:count_max]

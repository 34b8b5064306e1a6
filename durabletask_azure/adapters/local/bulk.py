"""Many rows by few statements: SQLite then works on all of them at once, while other threads have Python's lock.

A thread gives that lock away for each step of a statement, and waits to get it back; with a statement for each row, a
transaction of some hundred rows waits some hundred times. Rows are cut into portions of few sizes, so that the
statements are prepared once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import msgspec

from durabletask_azure.adapters.local.committer import Transaction

__all__ = ["NULL", "Bulk", "as_places", "run_bulk"]

NULL: Final = math.nan
"""SQLite's NULL, which is what it takes a number for that is none. Python's module binds numbers, texts and bytearrays
as they are; of all else, None, truth values and bytes too, it first asks whether somebody adapts it to SQLite, which
costs an error raised and caught: four times what binding does."""

_SIZES = (64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)
_PORTIONS = [next(size for size in _SIZES if size <= max(left, 1)) for left in range(_SIZES[0] + 1)]
"""How many of so many rows that are left make the next portion; of more, as many as of the last."""
_encode = msgspec.json.Encoder().encode

Bulk = Callable[[str], str]
"""Makes a statement of the text that stands for its rows: ``(?, ?), (?, ?)``."""


def run_bulk(transaction: Transaction, bulk: Bulk, rows: Sequence[tuple[Any, ...]]) -> int:
    """Run a statement for rows of the same length, in their order; return how many rows of the table it touched."""
    touched = begin = 0
    count = len(rows)
    while begin < count:
        size = _PORTIONS[min(count - begin, _SIZES[0])]
        values = rows[begin] if size == 1 else tuple(chain.from_iterable(rows[begin : begin + size]))
        touched += transaction.execute(_statement(bulk, size, len(rows[begin])), values).rowcount
        begin += size
    return touched


@lru_cache(maxsize=256)
def _statement(bulk: Bulk, size: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return bulk(", ".join([row] * size))


def as_places(places: Sequence[int]) -> str:
    """Return row numbers as the one parameter of ``IN (SELECT value FROM json_each(?))``."""
    return _encode(places).decode()

"""Reads from the hub's database: short ones at once, in the caller's thread; long ones in a thread of their own.

A read sees all that was committed before it began, and nothing else. In memory there is one connection for everything,
so reads take the writer's lock.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from durabletask_azure.errors import HubUnavailableError

__all__ = ["Reader", "Row"]

Row = tuple[Any, ...]


class Reader:
    """The reading side of one open hub."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        lock: threading.Lock,
        long: tuple[sqlite3.Connection, threading.Lock] | None = None,
    ) -> None:
        """Read through ``connection`` under ``lock``; long reads through ``long``, or the same way if there is none."""
        self._connection = connection
        self._lock = lock
        self._long = long
        self._thread = ThreadPoolExecutor(1, "durabletask-hub-reader") if long is not None else None

    def rows(self, sql: str, parameters: Sequence[object]) -> list[Row]:
        """Return all rows of a short query.

        Raises:
            HubUnavailableError: the database failed, or the hub is closed.
        """
        return _rows(self._connection, self._lock, sql, parameters)

    def row(self, sql: str, parameters: Sequence[object]) -> Row | None:
        """Return the first row of a short query; errors as :meth:`rows`."""
        found = self.rows(sql, parameters)
        return found[0] if found else None

    async def long_rows(self, sql: str, parameters: Sequence[object]) -> list[Row]:
        """Return all rows of a query that may read much; errors as :meth:`rows`."""
        if self._long is None or self._thread is None:
            return self.rows(sql, parameters)
        connection, lock = self._long
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, _rows, connection, lock, sql, parameters
            )
        except RuntimeError as error:
            raise HubUnavailableError("the hub is closed") from error

    def close(self) -> None:
        """End the thread and close the connections."""
        if self._thread is not None:
            self._thread.shutdown(wait=True)
        if self._long is not None:
            self._long[0].close()
        with self._lock:
            self._connection.close()


def _rows(
    connection: sqlite3.Connection, lock: threading.Lock, sql: str, parameters: Sequence[object]
) -> list[Row]:
    try:
        with lock:
            return connection.execute(sql, parameters).fetchall()
    except UnicodeEncodeError:
        # A lone surrogate is in no stored text.
        return []
    except sqlite3.Error as error:
        raise HubUnavailableError(f"the hub's database failed: {error}") from error

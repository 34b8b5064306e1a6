"""What this machine does in a second, measured around every run: figures of two runs compare only if these do."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["yardsticks"]

_SECONDS = 0.2


def yardsticks() -> dict[str, float]:
    """Return rates per second of a fixed Python loop, of JSON and of the disk, and the load average; takes 1 s."""
    return {
        "Python loop, M iterations/s": max(_rate(_python_loop, 20_000) for _ in range(3)) / 1e6,
        "JSON round trips, k/s": _rate(_json_round_trips, 500) / 1e3,
        "SQLite commits (WAL, FULL), k/s": _sqlite_commits() / 1e3,
        "fdatasync of 512 bytes, k/s": _syncs() / 1e3,
        "load average": os.getloadavg()[0],
    }


def _rate(body: Callable[[int], object], amount: int) -> float:
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < _SECONDS:
        body(amount)
        done += amount
    return done / (time.perf_counter() - begun)


def _python_loop(amount: int) -> int:
    seen: dict[int, int] = {}
    value = 0
    for index in range(amount):
        seen[index & 255] = value
        value = (value + index * 7) & 0xFFFFFF
        value ^= len(seen)
    return value


def _json_round_trips(amount: int) -> None:
    event = {"type": "TaskCompleted", "id": 17, "time": "2026-01-01T00:00:00Z", "result": [1, 2, 3]}
    for _ in range(amount):
        json.loads(json.dumps(event))


def _sqlite_commits() -> float:
    with tempfile.TemporaryDirectory(prefix="yardstick-") as folder:
        connection = sqlite3.connect(Path(folder) / "yardstick.db", isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("CREATE TABLE rows(id INTEGER PRIMARY KEY, value TEXT)")

            def commits(amount: int) -> None:
                for _ in range(amount):
                    connection.execute("BEGIN IMMEDIATE")
                    connection.execute("INSERT INTO rows(value) VALUES (?)", ("x" * 200,))
                    connection.execute("COMMIT")

            return _rate(commits, 10)
        finally:
            connection.close()


def _syncs() -> float:
    sync = getattr(os, "fdatasync", os.fsync)
    with tempfile.NamedTemporaryFile(prefix="yardstick-", buffering=0) as file:

        def syncs(amount: int) -> None:
            for _ in range(amount):
                file.write(b"x" * 512)
                sync(file.fileno())

        return _rate(syncs, 10)

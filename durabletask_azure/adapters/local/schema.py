"""The hub's file: its tables, how it is created and opened, and what is refused.

Invariant: a file that is not a task hub, or a newer one, is left exactly as it was; a new one is created whole or not
at all, also when several processes create it at once. ``messages.seq`` is the time, in microseconds, at which the
message was taken in, made strictly increasing by SQLite's own record of the highest ever given (``sqlite_sequence``).
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
import uuid
from pathlib import Path

from durabletask_azure.adapters.local.clock import from_us, wall_us
from durabletask_azure.adapters.local.upgrades import ADDED_INDEXES, add_missing
from durabletask_azure.core.partitioning import PARTITIONS_MAX
from durabletask_azure.errors import ConfigurationError, SchemaVersionError
from durabletask_azure.ports import HubInfo

__all__ = [
    "PARTITIONS_DEFAULT",
    "SCHEMA_VERSION",
    "SYNCHRONOUS",
    "check_arguments",
    "check_file",
    "connect",
    "create_or_check",
    "folders_of",
]

SCHEMA_VERSION = 1
PARTITIONS_DEFAULT = 4
BUSY_TIMEOUT_MS = 10_000
_APPLICATION_ID = 0x64746168  # "dtah"
SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
"""SQLite's names of its settings 0 to 3."""
_BESIDE = ("-wal", "-shm", "-journal", "-locks", "-payloads")
"""What SQLite and this package add to the name of a hub's file, for what is beside it."""

_TABLES = (
    "CREATE TABLE hub(schema_version INTEGER NOT NULL, incarnation TEXT NOT NULL, partitions INTEGER NOT NULL,"
    " created_at INTEGER NOT NULL)",
    "CREATE TABLE locks(partition INTEGER PRIMARY KEY, etag INTEGER NOT NULL, body BLOB NOT NULL)",
    # The large columns come last: a query that leaves out `tail` never reads its pages.
    "CREATE TABLE instances(partition INTEGER NOT NULL, id TEXT NOT NULL, etag INTEGER NOT NULL, name TEXT NOT NULL,"
    " status TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, completed_at INTEGER,"
    " due_at INTEGER, has_reason INTEGER NOT NULL, body BLOB NOT NULL, tail BLOB NOT NULL)",
    "CREATE UNIQUE INDEX instances_by_id ON instances(partition, id)",
    "CREATE INDEX instances_due ON instances(partition, due_at) WHERE due_at IS NOT NULL",
    *ADDED_INDEXES.values(),
    "CREATE TABLE segments(partition INTEGER NOT NULL, id TEXT NOT NULL, execution_id TEXT NOT NULL,"
    " idx INTEGER NOT NULL, events BLOB NOT NULL)",
    "CREATE UNIQUE INDEX segments_by_id ON segments(partition, id, execution_id, idx)",
    "CREATE TABLE outbox(partition INTEGER NOT NULL, n INTEGER NOT NULL, idx INTEGER NOT NULL, body BLOB NOT NULL)",
    "CREATE UNIQUE INDEX outbox_by_n ON outbox(partition, n, idx)",
    "CREATE TABLE tombstones(partition INTEGER NOT NULL, id TEXT NOT NULL, expires_at INTEGER NOT NULL,"
    " body BLOB NOT NULL)",
    "CREATE UNIQUE INDEX tombstones_by_id ON tombstones(partition, id)",
    "CREATE INDEX tombstones_expired ON tombstones(partition, expires_at)",
    # `visible_at` is NULL for a message to be delivered at once; `deliveries` counts those that did not end well.
    "CREATE TABLE messages(seq INTEGER PRIMARY KEY AUTOINCREMENT, partition INTEGER NOT NULL, id TEXT NOT NULL,"
    " visible_at INTEGER, deliveries INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL)",
    "CREATE INDEX messages_ready ON messages(partition, seq) WHERE visible_at IS NULL",
    "CREATE INDEX messages_due ON messages(partition, visible_at, seq) WHERE visible_at IS NOT NULL",
    "CREATE INDEX messages_cancel ON messages(partition, id) WHERE visible_at IS NOT NULL",
    # `deliveries` counts every time the task was handed to a consumer.
    "CREATE TABLE tasks(seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, grp TEXT NOT NULL, locked_by TEXT,"
    " deliveries INTEGER NOT NULL DEFAULT 0, enqueued_at INTEGER NOT NULL, body BLOB NOT NULL)",
    "CREATE INDEX tasks_free ON tasks(grp, seq) WHERE locked_by IS NULL",
    "CREATE INDEX tasks_locked ON tasks(locked_by) WHERE locked_by IS NOT NULL",
    # `partition` is NULL for an activity task.
    "CREATE TABLE dead(seq INTEGER PRIMARY KEY AUTOINCREMENT, partition INTEGER, id TEXT NOT NULL,"
    " reason TEXT NOT NULL, description TEXT NOT NULL, deliveries INTEGER NOT NULL, enqueued_at INTEGER NOT NULL,"
    " locked_until INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL)",
    "CREATE TABLE workers(id TEXT PRIMARY KEY, process TEXT NOT NULL, stopping INTEGER NOT NULL,"
    " seen_at INTEGER NOT NULL, partitions BLOB NOT NULL)",
)


def check_arguments(partitions: int | None, synchronous: str) -> None:
    """Refuse what no hub can have.

    Raises:
        ConfigurationError: a number of partitions out of range, or no mode of SQLite.
    """
    if partitions is not None and not 1 <= partitions <= PARTITIONS_MAX:
        raise ConfigurationError(f"partitions must be 1 to {PARTITIONS_MAX}, not {partitions}")
    if synchronous not in SYNCHRONOUS:
        raise ConfigurationError(f"synchronous must be one of {', '.join(SYNCHRONOUS)}, not {synchronous!r}")


def check_file(path: Path) -> None:
    """Refuse a path that cannot hold a hub, or a file that is none; touches nothing.

    Raises:
        ConfigurationError: names the path and what is needed.
    """
    try:
        _check_place(path)
        for folder in folders_of(path):
            if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
                raise ConfigurationError(
                    f"the hub file {path} needs its folder {folder} to be writable by this process"
                )
    except OSError as error:
        raise ConfigurationError(
            f"the hub file {path} cannot be reached ({error.strerror}); name one in a folder this process may use"
        ) from error


def folders_of(path: Path) -> tuple[Path, Path]:
    """Return the folders beside a hub's file: locks and payloads."""
    return path.with_name(f"{path.name}-locks"), path.with_name(f"{path.name}-payloads")


def _check_place(path: Path) -> None:
    if path.name.lower().endswith(_BESIDE):
        # SQLite takes such a file for part of a hub named without the ending, and removes it.
        raise ConfigurationError(
            f"the hub file {path} must not end in {', '.join(_BESIDE[:-1])} or {_BESIDE[-1]}:"
            " what is beside another hub's file ends so"
        )
    if not path.parent.is_dir():
        raise ConfigurationError(
            f"the hub file {path} needs an existing folder {path.parent}; create it first"
        )
    if not path.exists():
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise ConfigurationError(f"the hub file {path} needs a folder this process may write to")
        return
    if not path.is_file():
        raise ConfigurationError(
            f"the hub file {path} is not a file; name a file to create or an existing hub"
        )
    # It is not opened here: closing any descriptor of the file drops the locks SQLite holds on it elsewhere in this
    # process; the next process to close the hub would take itself for the last, and delete the log still in use here.
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)):
        raise ConfigurationError(f"the hub file {path} and its folder must be writable by this process")


def connect(path: str, synchronous: str) -> sqlite3.Connection:
    """Return a connection in autocommit mode that any thread may use, one at a time.

    Raises:
        sqlite3.Error: as SQLite says.
    """
    connection = sqlite3.connect(
        path,
        timeout=BUSY_TIMEOUT_MS / 1000,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA temp_store=MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


def create_or_check(connection: sqlite3.Connection, where: str, partitions: int | None) -> HubInfo:
    """Create the tables if there are none, and return what the hub is.

    Raises:
        ConfigurationError: another application's file, or another number of partitions than asked for. The default
            number means "whatever the hub has".
        SchemaVersionError: written by a newer version.
        sqlite3.Error: as SQLite says.
    """
    wanted = PARTITIONS_DEFAULT if partitions is None else partitions
    info = _info(connection, where)
    _use_wal(connection, where)
    if info is None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have been faster.
            info = _info(connection, where) or _create(connection, wanted)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    if wanted not in (PARTITIONS_DEFAULT, info.partitions):
        raise ConfigurationError(
            f"the hub {where} has {info.partitions} partitions, which never changes; {wanted} were asked for"
        )
    add_missing(connection)
    return info


def _create(connection: sqlite3.Connection, partitions: int) -> HubInfo:
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
    now_us = wall_us()
    incarnation = uuid.uuid4().hex
    connection.execute(
        "INSERT INTO hub VALUES(?, ?, ?, ?)", (SCHEMA_VERSION, incarnation, partitions, now_us)
    )
    connection.executemany(
        "INSERT INTO locks VALUES(?, 1, x'7b7d')", [(number,) for number in range(partitions)]
    )
    return HubInfo(
        schema_version=SCHEMA_VERSION,
        incarnation=incarnation,
        partitions=partitions,
        created_at=from_us(now_us),
    )


def _info(connection: sqlite3.Connection, where: str) -> HubInfo | None:
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != _APPLICATION_ID:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application or tables:
            raise ConfigurationError(f"{where} is an SQLite file of another application, not a task hub")
        return None
    version: int = connection.execute("SELECT schema_version FROM hub").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise SchemaVersionError(
            f"the hub {where} has schema version {version}; this version of durabletask_azure knows {SCHEMA_VERSION}"
        )
    incarnation, partitions, created_at = connection.execute(
        "SELECT incarnation, partitions, created_at FROM hub"
    ).fetchone()
    return HubInfo(
        schema_version=version, incarnation=incarnation, partitions=partitions, created_at=from_us(created_at)
    )


def _use_wal(connection: sqlite3.Connection, where: str) -> None:
    # Changing the mode does not wait for other connections that are doing the same; so it is tried again.
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
            continue
        if mode not in ("wal", "memory"):
            raise ConfigurationError(
                f"the hub {where} needs a disk that SQLite's WAL mode works on (it got {mode!r})"
            )
        return

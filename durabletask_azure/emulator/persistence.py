"""Keep a broker in a SQLite file.

The journal gathers changes in memory; `commit` writes them in one transaction. The file is in WAL mode with
`synchronous=NORMAL`: what is committed survives the end of the process, however it ends, though not of the machine.
"""

from __future__ import annotations

import sqlite3
from dataclasses import asdict
from typing import Any, Final

import msgspec

from durabletask_azure.emulator.amqp.message import Content
from durabletask_azure.emulator.broker.namespace import Namespace
from durabletask_azure.emulator.broker.settings import QueueSettings
from durabletask_azure.emulator.broker.store import Message, MessageState

FORMAT: Final = 1
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS queues (
    name TEXT PRIMARY KEY, settings TEXT NOT NULL, created_at REAL NOT NULL, updated_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS numbers (path TEXT PRIMARY KEY, last_seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (
    path TEXT NOT NULL, seq INTEGER NOT NULL, state INTEGER NOT NULL, delivery_count INTEGER NOT NULL,
    enqueued_at REAL NOT NULL, enqueued_seq INTEGER NOT NULL, expires_at REAL NOT NULL, scheduled_at REAL,
    fields BLOB NOT NULL, bare BLOB NOT NULL, PRIMARY KEY (path, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    path TEXT NOT NULL, session_id TEXT NOT NULL, state BLOB NOT NULL, state_at REAL NOT NULL,
    PRIMARY KEY (path, session_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS duplicates (
    path TEXT NOT NULL, message_id TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (path, message_id)
) WITHOUT ROWID;
"""


class StoreError(Exception):
    """The file cannot be used."""


class _Fields(msgspec.Struct):
    """The parts of a message's content beside its bytes."""

    durable: bool | None
    priority: int | None
    ttl_ms: int | None
    annotations: list[tuple[bytes, bytes]]
    message_id: str
    session_id: str | None
    partition_key: str | None
    scheduled_ms: int | None


class Store:
    """A journal in a file.

    Args:
        path: the file, made if it is not there.

    Raises:
        StoreError: it is no store of this format, or another emulator has it.
    """

    def __init__(self, path: str) -> None:
        self._changes: list[tuple[str, tuple[Any, ...]]] = []
        self._numbers: dict[str, int] = {}
        self._loading = False
        try:
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(_TABLES)
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, FORMAT):
                raise StoreError(f"{path} has format {version}; this emulator reads {FORMAT}")
            self._database.execute(f"PRAGMA user_version={FORMAT}")
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be used: {error}") from error

    # ------------------------------------------------------------ journal

    def put(self, path: str, message: Message) -> None:
        """Keep a message."""
        content = message.content
        fields = _Fields(
            content.durable,
            content.priority,
            content.ttl_ms,
            content.annotations,
            content.message_id,
            content.session_id,
            content.partition_key,
            content.scheduled_ms,
        )
        self._numbers[path] = max(self._numbers.get(path, 0), message.seq)
        self._add(
            "INSERT OR REPLACE INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            path,
            message.seq,
            int(message.state),
            message.delivery_count,
            message.enqueued_at,
            message.enqueued_seq,
            message.expires_at,
            message.scheduled_at,
            msgspec.msgpack.encode(fields),
            content.bare,
        )

    def update(self, path: str, message: Message) -> None:
        """Keep its state and delivery count."""
        self._add(
            "UPDATE messages SET state = ?, delivery_count = ? WHERE path = ? AND seq = ?",
            int(message.state),
            message.delivery_count,
            path,
            message.seq,
        )

    def remove(self, path: str, seq: int) -> None:
        """Drop a message."""
        self._add("DELETE FROM messages WHERE path = ? AND seq = ?", path, seq)

    def session_state(self, path: str, session_id: str, state: bytes | None, at: float) -> None:
        """Keep or drop the state of a session."""
        if state is None:
            self._add("DELETE FROM sessions WHERE path = ? AND session_id = ?", path, session_id)
        else:
            self._add("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)", path, session_id, state, at)

    def seen(self, path: str, message_id: str, until: float) -> None:
        """Keep a message id."""
        self._add("INSERT OR REPLACE INTO duplicates VALUES (?, ?, ?)", path, message_id, until)

    def forget(self, path: str, message_ids: list[str]) -> None:
        """Drop message ids."""
        for message_id in message_ids:
            self._add("DELETE FROM duplicates WHERE path = ? AND message_id = ?", path, message_id)

    def queue(self, settings: QueueSettings, created_at: float, updated_at: float) -> None:
        """Keep a queue."""
        name = settings.name.casefold()
        known = {key: value for key, value in asdict(settings).items() if value != float("inf")}
        text = msgspec.json.encode(known).decode()
        self._add("INSERT OR REPLACE INTO queues VALUES (?, ?, ?, ?)", name, text, created_at, updated_at)

    def drop_queue(self, name: str) -> None:
        """Drop a queue and all in it."""
        self._add("DELETE FROM queues WHERE name = ?", name)
        for table in ("messages", "sessions", "duplicates", "numbers"):
            # With its sub-queues. Not LIKE, to which a name's underscore would be any character.
            sql = f"DELETE FROM {table} WHERE path = ? OR substr(path, 1, length(?) + 2) = ? || '/$'"  # noqa: S608
            self._add(sql, name, name, name)
        self._numbers = {path: seq for path, seq in self._numbers.items() if path.partition("/$")[0] != name}

    def _add(self, statement: str, *values: Any) -> None:
        if not self._loading:
            self._changes.append((statement, values))

    def commit(self) -> None:
        """Write the changes that have come together."""
        if not self._changes:
            return
        changes, self._changes = self._changes, []
        numbers, self._numbers = self._numbers, {}
        database = self._database
        database.execute("BEGIN")
        for statement, values in changes:
            database.execute(statement, values)
        database.executemany("INSERT OR REPLACE INTO numbers VALUES (?, ?)", list(numbers.items()))
        database.execute("COMMIT")

    def close(self) -> None:
        """Write what is left and close the file."""
        self.commit()
        self._database.close()

    # ------------------------------------------------------------ after a restart

    def load(self, namespace: Namespace) -> None:
        """Fill an empty namespace with what was kept."""
        self._loading = True
        rows = self._database.execute("SELECT settings, created_at, updated_at FROM queues").fetchall()
        for text, created_at, updated_at in rows:
            entry = namespace.create(msgspec.json.decode(text, type=QueueSettings), at=created_at)
            entry.updated_at = updated_at
        queues = {queue.path: queue for queue in namespace.queues()}
        select = "SELECT * FROM messages ORDER BY path, seq"
        for (
            path,
            seq,
            state,
            failed,
            at,
            first_seq,
            expires_at,
            scheduled_at,
            fields,
            bare,
        ) in self._database.execute(select):
            known = msgspec.msgpack.decode(fields, type=_Fields)
            message = Message(
                seq,
                Content(bare, **{name: getattr(known, name) for name in known.__struct_fields__}),
                at,
                first_seq,
                expires_at,
                MessageState(state),
                scheduled_at,
                failed,
            )
            queues[path].restore(message)
        for path, session_id, state, at in self._database.execute("SELECT * FROM sessions"):
            session = queues[path].sessions.get(session_id)
            session.state, session.state_at = state, at
        for path, message_id, until in self._database.execute("SELECT * FROM duplicates ORDER BY until"):
            queues[path].duplicates.add(message_id, until)
        for path, last_seq in self._database.execute("SELECT * FROM numbers"):
            queues[path].last_seq = max(queues[path].last_seq, last_seq)
        self._loading = False
        self._numbers.clear()
        for queue in queues.values():
            queue.tick()

"""Where somebody else writes to: the file of an embedded hub, or the queues and the table of an Azure hub."""

from __future__ import annotations

import random
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, cast

from azure.data.tables import TableClient, UpdateMode
from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusSender
from azure.servicebus.amqp import AmqpAnnotatedMessage, AmqpMessageProperties

from durabletask_azure import Settings, TaskHub
from tests.azure_services import AzureServices
from tests.mangling.mutator import Mutator

PARTITIONS: Final = 4
SETTINGS: Final = Settings(
    park_delays_s=(0.05,),
    dead_letters_kept_max=1_000_000,
    unregistered_retry_s=0.1,
    # So mangled rows are swept oftener, the reader of dead letters rests 2 s instead of 60, and what one that was
    # stopped had in hand is free sooner.
    sweep_s=20.0,
    lock_s=5.0,
    send_retry_s_max=1.0,
)
_BATCH_BYTES_MAX: Final = 200_000
"""Below what the broker takes: the SDK counts a batch smaller than it becomes."""
_ODD_VALUES: Final[tuple[Any, ...]] = (
    *("", "x", "\x00", "0", "RUNNING", "\U0001f388" * 100),
    *(0, 7, -1, 2**31 - 1, 0.5, True, False),
    *(b"", b"null", b"{}", b"\xff", b"x" * 60_000),
    *(uuid.UUID(int=7), datetime(1601, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
)


class Place(Protocol):
    """What a hub's messages and rows are kept in, written to past the hub."""

    def open_hub(self) -> TaskHub:
        """Open the hub."""
        ...

    def send(self, partition: int, messages: Sequence[bytes], tasks: Sequence[bytes]) -> None:
        """Put messages into the queue of a partition, and tasks into that of the activities."""
        ...

    def is_quiet(self) -> bool:
        """Whether no message or task waits, but those for later."""
        ...

    def mangle(self, seed: int) -> int:
        """Mangle the rows of all victims and their children; return how many."""
        ...

    def restore(self) -> None:
        """Put back what the rows were before."""
        ...


class FilePlace:
    """The file of an embedded hub."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[int, tuple[bytes, bytes]] = {}

    def open_hub(self) -> TaskHub:
        # Each of thousands of dead letters is a commit of its own.
        return TaskHub.local(self._path, partitions=PARTITIONS, synchronous="OFF", settings=SETTINGS)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=10)

    def send(self, partition: int, messages: Sequence[bytes], tasks: Sequence[bytes]) -> None:
        with closing(self._open()) as connection, connection:
            connection.executemany(
                "INSERT INTO messages(partition, id, body) VALUES(?, ?, ?)",
                [(partition, f"mangled-{number}", body) for number, body in enumerate(messages)],
            )
            connection.executemany(
                "INSERT INTO tasks(id, grp, enqueued_at, body) VALUES(?, '', 0, ?)",
                [(f"mangled-{number}", body) for number, body in enumerate(tasks)],
            )

    def is_quiet(self) -> bool:
        with closing(self._open()) as connection:
            # A mangled start may be due in some thousand years.
            [(messages,)] = connection.execute(
                "SELECT count(*) FROM messages"
                " WHERE visible_at IS NULL OR visible_at < (strftime('%s', 'now') + 5) * 1000000"
            )
            [(tasks,)] = connection.execute("SELECT count(*) FROM tasks")
        return messages == tasks == 0

    def mangle(self, seed: int) -> int:
        draw = random.Random(seed)
        with closing(self._open()) as connection, connection:
            rows = connection.execute(
                "SELECT rowid, body, tail FROM instances WHERE id LIKE 'victim-%' OR name = 'child'"
            ).fetchall()
            self._kept = {rowid: (body, tail) for rowid, body, tail in rows}
            lines = [line for _, _, tail in rows for line in tail.split(b"\n") if line]
            bodies = Mutator(draw.randrange(2**32), [body for _, body, _ in rows])
            events = Mutator(draw.randrange(2**32), lines)
            for rowid, (body, tail) in self._kept.items():
                self._write(connection, rowid, *_mangled(draw, body, tail, bodies, events))
        return len(self._kept)

    def restore(self) -> None:
        with closing(self._open()) as connection, connection:
            for rowid, (body, tail) in self._kept.items():
                self._write(connection, rowid, body, tail)

    def _write(self, connection: sqlite3.Connection, rowid: int, body: bytes, tail: bytes) -> None:
        connection.execute("UPDATE instances SET body = ?, tail = ? WHERE rowid = ?", (body, tail, rowid))


class AzurePlace:
    """The queues and the table of an Azure hub, by the bare SDKs."""

    def __init__(self, services: AzureServices, seed: int) -> None:
        self._services = services
        self._random = random.Random(seed)
        self._kept: list[dict[str, Any]] = []

    def open_hub(self) -> TaskHub:
        azure = self._services.settings(
            partitions=PARTITIONS, create_if_missing=True, duplicate_window_s=None, lock_duration_s=5.0
        )
        return TaskHub.azure(azure, settings=SETTINGS)

    # ------------------------------------------------------------ messages

    def send(self, partition: int, messages: Sequence[bytes], tasks: Sequence[bytes]) -> None:
        names = self._services.names
        session = f"p{partition:03d}"
        with ServiceBusClient.from_connection_string(self._services.emulator.connection_string) as bus:
            with bus.get_queue_sender(names.orchestrations) as sender:
                self._send(sender, messages, session)
            with bus.get_queue_sender(names.activities()) as sender:
                self._send(sender, tasks, None)

    def _send(self, sender: ServiceBusSender, bodies: Sequence[bytes], session: str | None) -> None:
        batch = sender.create_message_batch()
        for body in bodies:
            if batch.size_in_bytes + len(body) > _BATCH_BYTES_MAX:
                sender.send_messages(batch)
                batch = sender.create_message_batch()
            batch.add_message(self._message(body, session))
        sender.send_messages(batch)

    def _message(self, body: bytes, session: str | None) -> ServiceBusMessage | AmqpAnnotatedMessage:
        """Return a message with that body, or in one of ten cases one of a kind that is never sent by the package."""
        odd = self._random.randrange(50)
        if odd >= 5:
            message_id = self._random.choice((None, "m", "é" * 64, uuid.uuid4().hex))
            return ServiceBusMessage(body, session_id=session, message_id=message_id)
        ids: tuple[Any, ...] = (None, 7, b"id", uuid.UUID(int=7))
        properties = AmqpMessageProperties(group_id=session, message_id=self._random.choice(ids))
        parts: tuple[dict[str, Any], ...] = (
            {"value_body": body},
            {"value_body": {"id": [1, None, {"x": body}]}},
            {"value_body": None},
            {"sequence_body": [[body, 1], [None]]},
            {"data_body": [body[:10], body[10:], b""]},
        )
        return AmqpAnnotatedMessage(**parts[odd], properties=properties)

    def is_quiet(self) -> bool:
        names, emulator = self._services.names, self._services.emulator
        queues = [emulator.counts(name) for name in (names.orchestrations, names.activities())]
        return not any(queue.active or queue.dead_letters for queue in queues)

    # ------------------------------------------------------------ rows

    def _table(self) -> TableClient:
        return TableClient.from_connection_string(self._services.storage_string, self._services.names.table)

    def mangle(self, seed: int) -> int:
        draw = random.Random(seed)
        with self._table() as table:
            found: list[Mapping[str, Any]] = list(cast(Any, table).list_entities())
            self._kept = [
                dict(row)
                for row in found
                if row["RowKey"].startswith("i!victim-") or row.get("name") == "child"
            ]
            bodies = Mutator(draw.randrange(2**32), [row["body"] for row in self._kept])
            events = Mutator(
                draw.randrange(2**32),
                [line for row in self._kept for line in row.get("tail", b"").split(b"\n") if line],
            )
            for row in self._kept:
                self._write(table, self._mangled(draw, row, bodies, events))
        return len(self._kept)

    def _mangled(
        self, draw: random.Random, row: Mapping[str, Any], bodies: Mutator, events: Mutator
    ) -> dict[str, Any]:
        mangled = dict(row)
        properties = sorted(set(row) - {"PartitionKey", "RowKey"})
        match draw.randrange(8):
            case 0 | 1:
                mangled[draw.choice(properties)] = draw.choice(_ODD_VALUES)
            case 2:
                del mangled[draw.choice(properties)]
            case 3:
                # All of somebody else, under this key.
                other = dict(draw.choice(self._kept))
                mangled = other | {name: row[name] for name in ("PartitionKey", "RowKey")}
            case 4:
                mangled |= {"more": True, draw.choice(("body1", "tail1", "body2")): draw.choice(_ODD_VALUES)}
            case _:
                body, tail = _mangled(draw, row["body"], row.get("tail", b""), bodies, events)
                mangled |= {"body": body[:65_536], "tail": tail[:65_536]}
        return mangled

    def restore(self) -> None:
        with self._table() as table:
            for row in self._kept:
                self._write(table, row)

    def _write(self, table: TableClient, row: dict[str, Any]) -> None:
        cast(Any, table).upsert_entity(row, mode=UpdateMode.REPLACE)


def _mangled(
    draw: random.Random, body: bytes, tail: bytes, bodies: Mutator, events: Mutator
) -> tuple[bytes, bytes]:
    """Return a row's body and history, one of which is mangled."""
    if draw.random() < 0.5:
        return bodies.one(), tail
    parts = tail.split(b"\n")
    parts[draw.randrange(len(parts))] = events.one()
    return body, b"\n".join(parts)

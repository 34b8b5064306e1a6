"""The floor: the bare SDKs doing the messages and rows of a W1 that was counted, and nothing else.

Same links (a receiver for each partition's session and one for tasks, three senders), batch sizes, prefetch and
transaction sizes, in one process and one event loop, each link and each partition's commits in a task of its own. No
step waits for another: a commit does not wait for the messages that would cause it, so all links are busy from the
first moment to the last, which no program with data to pass on can reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import msgspec
from azure.core import MatchConditions
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender

from benchmarks.processes import CpuClock
from benchmarks.wire.costs import single_costs
from benchmarks.wire.counting import StorageRequests, count_storage_requests
from benchmarks.wire.plan import Plan
from benchmarks.wire.servers import FLOOR_SESSIONS, FLOOR_TASKS, Servers, clear_traffic, read_traffic
from benchmarks.workloads import own_process

__all__ = ["Floor", "measure", "open_floor"]

_TABLE = "floor"
_WAIT_S = 10.0
_SOCKET_S = 0.02
_CLIENTS = 16
"""Inserts and reads of the client under way at once."""


class Floor:
    """Open links and a table; each method does one kind of operation."""

    def __init__(
        self,
        plan: Plan,
        table: Any,
        sessions: list[ServiceBusReceiver],
        tasks: ServiceBusReceiver,
        senders: dict[str, ServiceBusSender],
    ) -> None:
        self.plan = plan
        self._table = table
        self._sessions = sessions
        self._tasks = tasks
        self._senders = senders
        self._etags = [""] * plan.partitions
        self._key = 0
        self._fill = {"row": plan.entity_bytes, "insert": plan.insert_bytes}
        self._body = {"session": plan.to_partition_bytes, "task": plan.task_bytes}

    # ------------------------------------------------------------------ rows

    def _entity(self, partition: int, key: str, fill: int) -> dict[str, Any]:
        entity: dict[str, Any] = {"PartitionKey": f"p{partition:03}", "RowKey": key}
        each = max(1, fill // max(1, self.plan.row_properties))
        for index in range(self.plan.row_properties):
            entity[f"property{index}"] = "x" * each
        return entity

    def _new_key(self) -> str:
        self._key += 1
        return f"c!{self._key:08}"

    async def insert(self, partition: int) -> str:
        """Insert a row, as a client that starts an orchestration does."""
        key = self._new_key()
        await self._table.create_entity(self._entity(partition, key, self._fill["insert"]))
        return key

    async def read(self, partition: int, key: str) -> None:
        """Read a row."""
        await self._table.get_entity(f"p{partition:03}", key)

    async def transact(self, partition: int, entities: int) -> None:
        """Commit rows of instances and the lock row, which is replaced with If-Match."""
        lock = {"PartitionKey": f"p{partition:03}", "RowKey": "lock", "n": self._key}
        etag = self._etags[partition]
        operations: list[Any] = [
            ("upsert", lock, {"mode": UpdateMode.REPLACE})
            if not etag
            else (
                "update",
                lock,
                {"mode": UpdateMode.REPLACE, "etag": etag, "match_condition": MatchConditions.IfNotModified},
            )
        ]
        for index in range(entities - 1):
            row = self._entity(partition, f"i!{index:08}", self._fill["row"])
            operations.append(("upsert", row, {"mode": UpdateMode.REPLACE}))
        answers = await self._table.submit_transaction(operations)
        self._etags[partition] = str(answers[0]["etag"])

    # ------------------------------------------------------------------ messages

    async def send(self, sender: str, count: int, session: str | None = None) -> None:
        """Send messages in one batch."""
        size = self._body["task" if session is None else "session"]
        self._key += 1
        await self._senders[sender].send_messages(
            [
                ServiceBusMessage(b"x" * size, session_id=session, message_id=f"{self._key}-{index}")
                for index in range(count)
            ]
        )

    async def receive(self, session: int | None, count: int, done: Callable[[], None] | None = None) -> None:
        """Receive and complete messages: tasks, or those of a session."""
        receiver = self._tasks if session is None else self._sessions[session]
        left = count
        while left:
            for message in await receiver.receive_messages(max_message_count=1, max_wait_time=_WAIT_S):
                await receiver.complete_message(message)
                left -= 1
                if done is not None:
                    done()

    # ------------------------------------------------------------------ sizes

    async def calibrate(self, storage: StorageRequests, admin_url: str) -> None:
        """Find out what SDK and protocol add to rows and messages, so that what is sent is as large as planned."""
        for partition in range(self.plan.partitions):
            await self.transact(partition, 2)
        rows = max(2, round(self.plan.entities / self.plan.transactions))
        storage.clear()
        await self.transact(0, rows)
        # The lock row is small: the others carry what it lacks.
        missing = (self.plan.entity_bytes - storage["transaction bytes"] / rows) * rows / (rows - 1)
        self._fill["row"] = max(0, round(self._fill["row"] + missing))
        await self.insert(0)
        self._fill["insert"] = max(0, 2 * self.plan.insert_bytes - storage["insert bytes"])
        for queue, sender, session, kind in (
            (FLOOR_SESSIONS, "client", "p000", "session"),
            (FLOOR_TASKS, "tasks", None, "task"),
        ):
            clear_traffic(admin_url)
            await self.send(sender, 10, session)
            sent = read_traffic(admin_url)[queue]["bytes"] / 10
            self._body[kind] = max(1, round(2 * self._body[kind] - sent))
            await self.receive(None if session is None else 0, 10)

    # ------------------------------------------------------------------ all at once

    async def pipelined(self, plan: Plan) -> float:
        """Do everything of a plan, as much at once as there are links; return the seconds it took."""
        partitions = range(plan.partitions)
        batch_tasks, batch_sessions = (
            _mean(plan.tasks, plan.tasks_sends),
            _mean(plan.to_partitions, plan.to_partitions_sends),
        )
        tasks: asyncio.Queue[int] = asyncio.Queue()
        finished = 0
        result = asyncio.Event()

        async def client() -> None:
            shares = _shares(plan.inserts, max(1, round(plan.inserts / batch_sessions)))
            for index, share in enumerate(shares):
                partition = index % plan.partitions
                await _at_once(_CLIENTS, [lambda p=partition: self.insert(p) for _ in range(share)])
                await self.send("client", share, f"p{partition:03}")

        async def commits(partition: int) -> None:
            count = _shares(plan.transactions, plan.partitions)[partition]
            entities = _shares(_shares(plan.entities, plan.partitions)[partition], count)
            sends = _shares(_shares(plan.tasks, plan.partitions)[partition], count)
            loads = _shares(plan.loads, plan.partitions)[partition]
            await _at_once(loads, [lambda: self.read(partition, "lock") for _ in range(loads)])
            for rows, messages in zip(entities, sends, strict=True):
                await self.transact(partition, rows)
                tasks.put_nowait(messages)

        async def send_tasks() -> None:
            left, gathered = plan.tasks, 0
            while left:
                gathered += await tasks.get()
                while gathered >= batch_tasks or (gathered and gathered >= left):
                    now = min(left, max(1, round(batch_tasks)))
                    await self.send("tasks", now)
                    gathered -= now
                    left -= now

        def task_done() -> None:
            nonlocal finished
            finished += 1
            result.set()

        async def send_results() -> None:
            messages = plan.to_partitions - plan.inserts
            each = _shares(messages, max(1, round(messages / batch_sessions)))
            sent = 0
            for index, share in enumerate(each):
                # A pack leaves when the tasks of its results are done.
                while finished < round(plan.tasks * (sent + share) / messages):
                    result.clear()
                    await result.wait()
                await self.send("results", share, f"p{index % plan.partitions:03}")
                sent += share

        async def read_results() -> None:
            await _at_once(_CLIENTS, [lambda: self.read(0, "lock") for _ in range(plan.results)])

        begun = time.perf_counter()
        await asyncio.gather(
            client(),
            send_tasks(),
            send_results(),
            read_results(),
            self.receive(None, plan.tasks, task_done),
            *(commits(partition) for partition in partitions),
            self._sessions_until_empty(plan),
        )
        return time.perf_counter() - begun

    async def _sessions_until_empty(self, plan: Plan) -> None:
        left = plan.to_partitions

        def one() -> None:
            nonlocal left
            left -= 1

        async def session(receiver: ServiceBusReceiver) -> None:
            while left > 0:
                for message in await receiver.receive_messages(max_message_count=1, max_wait_time=0.1):
                    await receiver.complete_message(message)
                    one()

        await asyncio.gather(*(session(receiver) for receiver in self._sessions))


def _mean(count: int, batches: int) -> float:
    return max(1.0, count / max(1, batches))


def _shares(count: int, parts: int) -> list[int]:
    """Divide a count into whole parts that differ by one at most."""
    return [count * (index + 1) // parts - count * index // parts for index in range(parts)]


async def _at_once(limit: int, calls: list[Callable[[], Awaitable[Any]]]) -> None:
    places = asyncio.Semaphore(max(1, limit))

    async def one(call: Callable[[], Awaitable[Any]]) -> None:
        async with places:
            await call()

    await asyncio.gather(*(one(call) for call in calls))


@contextlib.asynccontextmanager
async def open_floor(plan: Plan, servers: Servers) -> AsyncGenerator[Floor]:
    """Open the links and the table of a floor, and close them in the end."""
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            # One context for all links: each would read the system's certificates otherwise, TLS or not.
            ServiceBusClient.from_connection_string(
                servers.service_bus, ssl_context=ssl.create_default_context()
            )
        )
        # Untyped: the SDK leaves most of its types open.
        table: Any = await stack.enter_async_context(
            TableClient.from_connection_string(servers.storage, table_name=_TABLE)
        )
        await table.create_table()
        senders = {
            "client": client.get_queue_sender(FLOOR_SESSIONS),
            "results": client.get_queue_sender(FLOOR_SESSIONS),
            "tasks": client.get_queue_sender(FLOOR_TASKS),
        }
        options: dict[str, Any] = {"prefetch_count": plan.prefetch, "socket_timeout": _SOCKET_S}
        tasks = client.get_queue_receiver(FLOOR_TASKS, **options)
        sessions = [
            client.get_queue_receiver(FLOOR_SESSIONS, session_id=f"p{partition:03}", **options)
            for partition in range(plan.partitions)
        ]
        for link in (*senders.values(), tasks, *sessions):
            await stack.enter_async_context(link)
        yield Floor(plan, table, sessions, tasks, senders)


def measure(plan: dict[str, Any], servers: dict[str, Any]) -> dict[str, Any]:
    """Do a plan once and each kind of operation by itself, after a warm-up; return JSON of what it took."""
    return asyncio.run(_measure(msgspec.convert(plan, Plan), msgspec.convert(servers, Servers)))


async def _measure(plan: Plan, servers: Servers) -> dict[str, Any]:
    storage = count_storage_requests(servers.table_url)
    async with open_floor(plan, servers) as floor:
        await floor.calibrate(storage, servers.admin_url)
        await floor.pipelined(plan.part(0.25))
        storage.clear()
        clear_traffic(servers.admin_url)
        clocks = {name: CpuClock({name: pid}) for name, pid in own_process(**servers.processes()).items()}
        seconds = await floor.pipelined(plan)
        cpu = {name: clock.seconds() for name, clock in clocks.items()}
        counted = dict(storage)
        traffic = read_traffic(servers.admin_url)
        return {
            "seconds": seconds,
            "cpu": cpu,
            "storage": counted,
            "to partitions": traffic[FLOOR_SESSIONS],
            "tasks": traffic[FLOOR_TASKS],
            "costs": await single_costs(floor, servers),
        }

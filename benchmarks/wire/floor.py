"""The floor: the bare SDKs doing the messages and rows of a W1 that was counted, and nothing else.

Same links, batch sizes, prefetch and transaction sizes, in one process, each link and each partition's commits in a
task of its own. No step waits for another: a commit does not wait for the messages that would cause it, so all links
are busy from the first moment to the last, which no program with data to pass on can reach. It is done twice, with the
links in a thread of their own as the hub has them, and all in one loop; the faster one counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from benchmarks.processes import CpuClock
from benchmarks.wire.bare_links import BareLinks, LinkLoop, link_loop, open_links
from benchmarks.wire.bare_rows import BareRows, open_rows
from benchmarks.wire.costs import single_costs
from benchmarks.wire.counting import StorageRequests, count_storage_requests
from benchmarks.wire.plan import Plan
from benchmarks.wire.servers import FLOOR_SESSIONS, FLOOR_TASKS, Servers, clear_traffic, read_traffic
from benchmarks.wire.store_cost import transaction_costs
from benchmarks.workloads import own_process

__all__ = ["measure"]

_CLIENTS = 16
"""Inserts and reads of the client under way at once."""
_WARM_UP = 0.25


class _Floor:
    """One run of a plan."""

    def __init__(self, plan: Plan, rows: BareRows, links: BareLinks, loop: LinkLoop) -> None:
        self._plan = plan
        self._rows = rows
        self._links = links
        self._loop = loop
        self._batch_tasks = max(1, round(plan.tasks / plan.tasks_sends))
        self._batch_packs = max(1, round(plan.to_partitions / plan.to_partitions_sends))
        self._scheduled: asyncio.Queue[int] = asyncio.Queue()
        self._finished = 0
        self._one_finished = asyncio.Event()

    async def run(self) -> float:
        """Do everything of the plan, as much at once as there are links; return the seconds it took."""
        plan = self._plan
        begun = time.perf_counter()
        await asyncio.gather(
            self._loop.run(self._messages()),
            self._start(),
            _at_once(_CLIENTS, plan.results, lambda: self._rows.read(0)),
            *(self._commits(partition) for partition in range(plan.partitions)),
        )
        return time.perf_counter() - begun

    async def _start(self) -> None:
        """Insert rows and send their wake-ups, as the clients do: what was inserted while one batch was sent is the
        next."""
        plan = self._plan
        inserted, one = 0, asyncio.Event()

        async def insert() -> None:
            nonlocal inserted
            await self._rows.insert(inserted % plan.partitions)
            inserted += 1
            one.set()

        async def send() -> None:
            sent = 0
            shares = _shares(plan.inserts, max(1, round(plan.inserts / self._batch_packs)))
            for index, share in enumerate(shares):
                while inserted < sent + share:
                    one.clear()
                    await one.wait()
                await self._loop.run(self._links.send("client", share, f"p{index % plan.partitions:03}"))
                sent += share

        await asyncio.gather(_at_once(_CLIENTS, plan.inserts, insert), send())

    async def _commits(self, partition: int) -> None:
        """Load instances and commit, in order; each commit schedules its share of tasks."""
        plan = self._plan
        share = [
            _shares(count, plan.partitions)[partition]
            for count in (plan.loads, plan.transactions, plan.entities, plan.tasks)
        ]
        loads, transactions, entities, tasks = share
        await _at_once(max(1, loads), loads, lambda: self._rows.read(partition))
        for rows, scheduled in zip(
            _shares(entities, transactions), _shares(tasks, transactions), strict=True
        ):
            await self._rows.transact(partition, rows)
            self._loop.soon(self._scheduled.put_nowait, scheduled)

    async def _messages(self) -> None:
        """Everything on the links but the wake-ups."""
        plan = self._plan
        await asyncio.gather(
            self._send_tasks(),
            self._links.receive_tasks(plan.tasks, self._task_finished),
            self._send_results(),
            self._links.receive_in_sessions(plan.to_partitions),
        )

    async def _send_tasks(self) -> None:
        left, gathered = self._plan.tasks, 0
        while left:
            gathered += await self._scheduled.get()
            while gathered >= min(self._batch_tasks, left) and left:
                now = min(self._batch_tasks, left)
                await self._links.send("tasks", now)
                gathered -= now
                left -= now

    def _task_finished(self) -> None:
        self._finished += 1
        self._one_finished.set()

    async def _send_results(self) -> None:
        """Send packs, each when the tasks of its results are done."""
        plan = self._plan
        packs = plan.to_partitions - plan.inserts
        sent = 0
        for index, share in enumerate(_shares(packs, max(1, round(packs / self._batch_packs)))):
            sent += share
            while self._finished < round(plan.tasks * sent / packs):
                self._one_finished.clear()
                await self._one_finished.wait()
            await self._links.send("results", share, f"p{index % plan.partitions:03}")


def _shares(count: int, parts: int) -> list[int]:
    """Divide a count into whole parts that differ by one at most."""
    return [count * (index + 1) // parts - count * index // parts for index in range(parts)]


async def _at_once(limit: int, times: int, call: Callable[[], Awaitable[Any]]) -> None:
    left = times

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call()

    await asyncio.gather(*(worker() for _ in range(min(limit, times))))


def measure(plan: dict[str, Any], servers: dict[str, Any], cost_rounds: int) -> dict[str, Any]:
    """Do a plan in both layouts, and each kind of operation by itself; return what the faster one took, and the costs,
    as JSON has them."""
    where, what = msgspec.convert(servers, Servers), msgspec.convert(plan, Plan)
    storage = count_storage_requests(where.table_url)
    return asyncio.run(_measure(what, where, storage, cost_rounds))


async def _measure(
    plan: Plan, servers: Servers, storage: StorageRequests, cost_rounds: int
) -> dict[str, Any]:
    async with open_rows(plan, servers) as rows:
        await rows.calibrate(storage)
        runs: dict[str, dict[str, Any]] = {}
        costs: dict[str, dict[str, float]] = {}
        for layout in ("links in a thread of their own", "all in one loop"):
            with link_loop(own_thread=not runs) as loop:
                async with _opened(loop, plan, servers) as links:
                    await loop.run(links.calibrate(servers.admin_url))
                    await _Floor(plan.part(_WARM_UP), rows, links, loop).run()
                    runs[layout] = await _one(_Floor(plan, rows, links, loop), servers, storage)
                    if len(runs) > 1:
                        costs = await single_costs(rows, links, servers, cost_rounds)
        # In base 64 a third is added, and what is not history takes about half of a row.
        own = await transaction_costs(rows, servers, tail_bytes=max(1, plan.entity_bytes * 3 // 8))
        layout = min(runs, key=lambda name: runs[name]["seconds"])
        return runs[layout] | {
            "layout": layout,
            "costs": costs,
            "transaction": own,
            "seconds by layout": {name: run["seconds"] for name, run in runs.items()},
        }


async def _one(floor: _Floor, servers: Servers, storage: StorageRequests) -> dict[str, Any]:
    storage.clear()
    clear_traffic(servers.admin_url)
    clocks = {name: CpuClock({name: pid}) for name, pid in own_process(**servers.processes()).items()}
    seconds = await floor.run()
    cpu = {name: clock.seconds() for name, clock in clocks.items()}
    traffic = read_traffic(servers.admin_url)
    return {
        "seconds": seconds,
        "cpu": cpu,
        "storage": dict(storage),
        "to partitions": traffic[FLOOR_SESSIONS],
        "tasks": traffic[FLOOR_TASKS],
    }


@contextlib.asynccontextmanager
async def _opened(loop: LinkLoop, plan: Plan, servers: Servers) -> AsyncGenerator[BareLinks]:
    """Open the links on their loop, and close them there."""
    opening = open_links(plan, servers)
    links = await loop.run(_as_coroutine(opening.__aenter__()))
    try:
        yield links
    finally:
        await loop.run(_as_coroutine(opening.__aexit__(None, None, None)))


async def _as_coroutine(work: Awaitable[Any] | Coroutine[Any, Any, Any]) -> Any:
    return await work

"""The one world all simulated workers share: true time, broker, table, blobs, members, and a record of it all."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from durabletask_azure.ports import DeadLetter, HubInfo, WorkerRow
from tests.simulation.fakes.broker import ActivityBroker, SessionBroker
from tests.simulation.fakes.gate import CURRENT_GATE
from tests.simulation.fakes.table import ROWS_MAX, Table
from tests.simulation.virtual_time import VirtualTimeLoop

__all__ = ["EPOCH", "World"]

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


class World:
    """What exists once: create it inside a running virtual-time loop.

    ``breaches`` collects what must never happen and the world itself can see (a cancelled receive, an unhandled error
    of a task); ``outages`` is asked before every call and may return the error that the call meets.
    """

    def __init__(
        self,
        *,
        partitions: int = 2,
        lock_s: float = 30.0,
        dedup_s: float = 300.0,
        delivery_count_max: int = 10,
        rows_max: int = ROWS_MAX,
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self.loop = loop
        loop.on_task = _adopt
        loop.set_exception_handler(self._unhandled)
        self.info = HubInfo(schema_version=1, incarnation="sim", partitions=partitions, created_at=EPOCH)
        self.sessions = SessionBroker(
            self, partitions, lock_s=lock_s, dedup_s=dedup_s, delivery_count_max=delivery_count_max
        )
        self.activities = ActivityBroker(
            self, lock_s=lock_s, dedup_s=dedup_s, delivery_count_max=delivery_count_max
        )
        self.table = Table(self, rows_max)
        self.blobs: dict[str, tuple[bytes, datetime]] = {}
        self.kept_letters: dict[str, DeadLetter] = {}
        self.blob_names_written: set[str] = set()
        self.members: dict[str, tuple[WorkerRow, float]] = {}
        self.outages: Callable[[str, str], BaseException | None] | None = None
        self.breaches: list[str] = []
        self.counts: Counter[str] = Counter()
        """How often the world itself saw a fault of the catalogue at work."""
        self.unreadable: set[str] = set()
        """Instances whose rows workers cannot decode just now."""
        self.events_traced = 0
        self.tracer: Callable[[float, tuple[Any, ...]], None] | None = None
        self._hash = hashlib.blake2b(digest_size=12)
        self._waiting: dict[object, dict[asyncio.Future[None], None]] = {}

    def time(self) -> float:
        """Return true seconds since the world began."""
        return self.loop.time()

    def now(self) -> datetime:
        """Return the true time."""
        return EPOCH + timedelta(seconds=self.loop.time())

    def at(self, when: datetime) -> float:
        """Return the virtual time of a true date."""
        return (when - EPOCH).total_seconds()

    def trace(self, *parts: Any) -> None:
        """Record one thing that happened; the hash of all of them identifies a run."""
        self.events_traced += 1
        self._hash.update(repr((self.loop.time(), parts)).encode())
        if self.tracer is not None:
            self.tracer(self.loop.time(), parts)

    @property
    def trace_hash(self) -> str:
        """The hash of everything traced so far."""
        return self._hash.hexdigest()

    def outage(self, gate: str, op: str) -> BaseException | None:
        """Return the error a call meets because its service is down, if it is."""
        return None if self.outages is None else self.outages(gate, op)

    async def wait(self, key: object, until: float) -> None:
        """Return when ``key`` is notified, at the latest at virtual time ``until``."""
        future = self.loop.create_future()
        waiting = self._waiting.setdefault(key, {})
        waiting[future] = None
        handle = self.loop.call_at(until, _wake, future)
        try:
            await future
        finally:
            handle.cancel()
            waiting.pop(future, None)

    def notify(self, key: object) -> None:
        """Wake all who wait for ``key``."""
        for future in tuple(self._waiting.get(key, ())):
            _wake(future)

    def notify_at(self, key: object, when: float) -> None:
        """Wake all who wait for ``key`` at virtual time ``when``."""
        self.loop.call_at(when, self.notify, key)

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and type(error).__name__ == "SimulatedCrash":
            return
        self.breaches.append(f"unhandled in the loop: {context.get('message')}: {error!r}")


def _adopt(task: asyncio.Task[Any]) -> None:
    gate = CURRENT_GATE.get()
    if gate is not None:
        gate.adopt(task)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

"""Runs activities: takes tasks from the queue, hands them to the executor, sends what came of them.

Invariants: a task leaves the queue only after its result is sent (the port's ``finish``), so an activity runs at least
once; every task taken ends as a result, as a failure, or back in the queue, never in silence; one that may be what ends
its workers runs by itself (``caution``); at most
``concurrency_max`` run and ``prefetch`` more wait here, results not yet sent included, so memory is bounded.
Where user code runs is the executor's business, what comes of one call ``activity_work``'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Sequence
from datetime import datetime
from typing import Any

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import TaskCompletedEvent
from durabletask_azure.core.messages import ToPartition
from durabletask_azure.core.payloads import BlobRef, PayloadWriter
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.engine.activity_locks import keep_locks
from durabletask_azure.engine.activity_middleware import unit_of
from durabletask_azure.engine.activity_work import (
    ActivityWork,
    describe_briefly,
    not_registered,
    stored_ending,
    task_ended,
    task_failed,
)
from durabletask_azure.engine.caution import Caution
from durabletask_azure.engine.counters import Counters
from durabletask_azure.engine.executor import ActivityExecutor, Work
from durabletask_azure.engine.retrying import kept_alive, patiently, within
from durabletask_azure.engine.taken_task import DELIVERIES_EXHAUSTED, TakenTask, taken
from durabletask_azure.errors import PartitionLostError, PayloadMissingError
from durabletask_azure.ports import ActivityDelivery, HubPorts, Interruptible
from durabletask_azure.settings import Settings

__all__ = ["DELIVERIES_EXHAUSTED", "ActivityLoop", "task_failed"]

_RECEIVE_WAIT_S = 1.0
_REST_S_MIN = 0.001
_log = logging.getLogger("durabletask_azure.engine.activities")


class ActivityLoop:
    """The activity side of one worker."""

    def __init__(
        self,
        ports: HubPorts,
        registry: Registry,
        settings: Settings,
        options: RuntimeOptions,
        executor: ActivityExecutor,
        counters: Counters,
        *,
        concurrency_max: int | None = None,
    ) -> None:
        self._ports = ports
        self._registry = registry
        self._settings = settings
        self._options = options
        self._executor = executor
        self._counters = counters
        self._unit_of = unit_of(options, executor)
        self._partitions = ports.info.partitions
        self._inline_max = settings.payload_inline_bytes_max
        self._names = None if registry.filters is None else registry.filters.activity_names
        self._running_max = concurrency_max or settings.activity_concurrency_max
        self._inside_max = self._running_max + settings.activity_prefetch_max
        self._batch_max = settings.pack_events_max * ports.info.partitions
        self._inside: dict[int, TakenTask] = {}
        self._held: deque[TakenTask] = deque()
        self._running = 0
        self._caution = Caution(ports, registry, settings, self._is_receiving)
        self._results: list[TakenTask] = []
        self._count = 0
        self._stopping = False
        self._closed = False
        self._room = asyncio.Event()
        self._ready = asyncio.Event()
        self._over = asyncio.Event()
        # Where a commit hands tasks to a receive that waits, one always waits while the other's are begun.
        self._receivers = 1 if ports.atomic is None else 2
        self._asked = 0  # tasks that receives under way may bring
        self._receiving: list[asyncio.Task[None]] = []
        self._tasks: dict[int, asyncio.Task[None]] = {}

    @property
    def running(self) -> int:
        """How many activities run now."""
        return self._running

    def start(self) -> None:
        """Begin to take and run tasks, on the running loop."""
        self._executor.open(self._finished)
        self._receiving = [
            asyncio.create_task(
                kept_alive(self._ports.clock, "receiving activities", self._receive, self._is_receiving)
            )
            for _ in range(self._receivers)
        ]
        for what, call in (
            ("sending activity results", self._send_results),
            ("renewing locks", self._keep_locks),
        ):
            self._spawn(kept_alive(self._ports.clock, what, call, self._is_open))

    async def stop(self, grace_s: float) -> None:
        """Take no more, give waiting tasks back, let running ones finish for ``grace_s`` seconds, send their results.

        What still runs then is given back: it may run again elsewhere, and its result here is ignored.
        """
        self._stopping = True
        self._room.set()
        if isinstance(self._ports.activities, Interruptible):
            self._ports.activities.interrupt()
        try:
            held = [self._inside.pop(entry.key) for entry in self._held]
            self._held.clear()
            await self._give_back([entry.delivery for entry in held])
            if not self._inside:
                self._over.set()
            await within(self._ports.clock, grace_s, self._over)
        finally:  # also when the hub's loop is ended meanwhile
            self._closed = True
            left = [entry.delivery for entry in self._inside.values()]
            self._inside.clear()
            if left:
                _log.warning("%d activities did not end in time; they will run again", len(left))
            await self._executor.close()
        await self._give_back(left)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        # a receive is never cancelled (a task received in that moment would stay locked): it ends by itself
        await asyncio.gather(*tasks, *self._receiving, return_exceptions=True)

    def hurry(self) -> None:
        """Make a :meth:`stop` under way wait no longer."""
        self._over.set()

    def _is_receiving(self) -> bool:
        return not self._stopping

    def _is_open(self) -> bool:
        return not self._closed

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._count += 1
        number = self._count

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.pop(number, None)
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, PartitionLostError):
                _log.error("a task of the activity loop failed", exc_info=error)

        self._tasks[number] = asyncio.create_task(work)
        self._tasks[number].add_done_callback(ended)

    # ------------------------------------------------------------------ in

    async def _receive(self) -> None:
        while room := await self._room_left():
            self._asked += room
            try:
                deliveries = await patiently(
                    self._ports.clock,
                    self._settings,
                    "receiving activities",
                    lambda room=room: self._ports.activities.receive(room, _RECEIVE_WAIT_S, self._names),
                    keep_going=self._is_receiving,
                )
            except PartitionLostError:  # patience ended with the loop
                return
            finally:
                self._asked -= room
            if self._stopping:
                await self._give_back(deliveries)
                return
            self._take_in(deliveries)
            if self._caution.is_on(self._held):
                await self._be_careful()
            self._pump()

    async def _room_left(self) -> int:
        """Wait until a task may be taken, and return how many, one at a time while care is taken; 0 at the end."""
        while not self._stopping:
            room, care_s = self._inside_max - len(self._inside) - self._asked, self._caution.left_s()
            if care_s > 0 and (self._asked or not self._caution.is_free(self._inside.values())):
                self._room.clear()
                # A rest too short for the clock would never pass.
                await within(self._ports.clock, max(care_s, _REST_S_MIN), self._room)
            elif room > 0:
                if self._receivers > 1 and not self._asked:
                    room = (room + 1) // 2
                return 1 if care_s > 0 else room
            else:
                self._room.clear()
                await self._room.wait()
        return 0

    async def _be_careful(self) -> None:
        """Let one task have this worker for itself, or none until it can, and put the others back."""
        self._take_in(await self._caution.come_ahead())
        waiting = list(self._held)
        self._held.clear()
        chosen, aside = await self._caution.part(waiting, self._inside.values())
        for entry in aside:
            self._leave(entry)
        if chosen is not None and self._stopping:
            await self._give_back([chosen.delivery])
            self._leave(chosen)
        elif chosen is not None:
            self._held.append(chosen)

    def _take_in(self, deliveries: Sequence[ActivityDelivery]) -> None:
        inside, held, find, clock = self._inside, self._held, self._registry.activity, self._ports.clock
        now = clock.monotonic()
        for delivery in deliveries:
            self._count = key = self._count + 1
            entry = inside[key] = taken(key, delivery, now)
            task = delivery.task
            if delivery.delivery_count > 1:
                self._counters.redeliveries += 1
            if task is None:
                self._spawn(self._put_aside(entry))
            elif entry.deliveries > self._settings.delivery_count_max:
                self._conclude(entry, None, entry.exhausted(), clock.now())
            elif find(task.name) is None:
                failure = not_registered(task, self._registry, self._options)
                self._conclude(entry, None, failure, clock.now())
            else:
                held.append(entry)

    async def _put_aside(self, entry: TakenTask) -> None:
        """Dead-letter a task that cannot be read, or leave that to the queue: it counts what is given back."""
        delivery = entry.delivery
        reason = delivery.error or "not an activity task"
        _log.error("activity task %s cannot be read and is put aside: %s", delivery.id, reason)
        try:
            await patiently(
                self._ports.clock,
                self._settings,
                "putting a task aside",
                lambda: self._ports.activities.dead_letter(delivery, "undecodable", reason),
                keep_going=self._is_open,
            )
            self._counters.dead_lettered += 1
        except PartitionLostError:  # patience ended with the loop
            return
        except Exception:
            _log.exception("activity task %s cannot be put aside", delivery.id)
            await self._give_back([delivery])
        self._leave(entry)

    # ------------------------------------------------------------------ running

    def _pump(self) -> None:
        """Start what waits, as far as there are places."""
        held = self._held
        count = min(len(held), self._running_max - self._running)
        if count <= 0:
            return
        self._running += count
        self._counters.activities_started += count
        units: list[ActivityWork] = []
        for entry in [held.popleft() for _ in range(count)]:
            entry.is_running = True
            text = entry.task.input
            if type(text) is BlobRef:
                self._spawn(self._load(entry, text))
            else:
                units.append(self._unit(entry, text))
        self._executor.submit(*units)

    async def _load(self, entry: TakenTask, ref: BlobRef) -> None:
        try:
            data = await patiently(
                self._ports.clock,
                self._settings,
                f"reading {ref.name}",
                lambda: self._ports.payloads.get(ref.name, ref.size),
                keep_going=self._is_open,
            )
            text = data.decode()
        except PartitionLostError:  # patience ended with the loop
            return
        except Exception as error:
            if isinstance(error, (PayloadMissingError, UnicodeDecodeError)):
                error = PayloadMissingError(f"the input of activity {entry.task.name!r} is lost: {error}")
            unit = self._unit(entry, None)
            unit.fail(error)
            self._finished((unit,))
            return
        self._counters.payloads_got += 1
        if not self._closed:
            self._executor.submit(self._unit(entry, text))

    def _unit(self, entry: TakenTask, text: str | None) -> ActivityWork:
        task = entry.task
        definition = self._registry.activity(task.name)
        assert definition is not None
        return self._unit_of(entry.key, definition, task, text, entry.deliveries, self._options)

    def _finished(self, works: Sequence[Work]) -> None:
        """Take over what the executor has done."""
        counters, inside, at = self._counters, self._inside, self._ports.clock.now()
        for work in works:
            # Code inside middleware is a unit of its own (key 0, or none), and tells the one around it.
            if not isinstance(work, ActivityWork) or (entry := inside.get(work.key)) is None:
                continue
            entry.is_running = False
            self._running -= 1
            if work.is_lost and entry.deliveries < self._settings.delivery_count_max:
                self._spawn(self._again(entry))
                continue
            text, failure = work.result, entry.exhausted() if work.is_lost else work.failure
            counters.activities_finished += 1
            if failure is not None:
                counters.activities_failed += 1
            self._conclude(entry, text, failure, at)
        self._pump()

    async def _again(self, entry: TakenTask) -> None:
        """Give back a task whose process died: it runs again, and has been delivered once more."""
        await self._give_back([entry.delivery])
        self._leave(entry)

    # ------------------------------------------------------------------ out

    def _conclude(
        self, entry: TakenTask, text: str | None, failure: FailureDetails | None, at: datetime
    ) -> None:
        """Turn the outcome of a task into a message and queue it, after its large values if there are any."""
        task, partitions = entry.task, self._partitions
        if failure is None and (text is None or (len(text) <= self._inline_max and text.isascii())):
            done = TaskCompletedEvent(timestamp=at, task_scheduled_id=task.task_id, result=text)
            self._queue(entry, task_ended(task, done, partitions=partitions))
            return
        writer = PayloadWriter(
            partitions=partitions,
            inline_bytes_max=self._inline_max,
            bytes_max=self._settings.payload_bytes_max,
        )
        body = stored_ending(task, text, failure, writer, at, self._options)
        message = task_ended(task, body, partitions=partitions)
        if writer.uploads:
            self._spawn(self._upload(entry, writer.uploads, message))
        else:
            self._queue(entry, message)

    async def _upload(self, entry: TakenTask, uploads: dict[str, bytes], message: ToPartition) -> None:
        try:
            for name, data in uploads.items():
                await patiently(
                    self._ports.clock,
                    self._settings,
                    f"writing {name}",
                    lambda name=name, data=data: self._ports.payloads.put(name, data),
                    keep_going=self._is_open,
                )
                self._counters.payloads_put += 1
        except PartitionLostError:  # patience ended with the loop
            return
        except Exception as error:
            _log.exception("what came of activity %r (%s) cannot be stored", entry.task.name, entry.task.id)
            at = self._ports.clock.now()
            message = task_failed(entry.task, describe_briefly(error), at=at, partitions=self._partitions)
        self._queue(entry, message)

    def _queue(self, entry: TakenTask, message: ToPartition) -> None:
        if not self._results:  # else whoever sends them knows
            self._ready.set()
        entry.message = message
        self._results.append(entry)

    async def _send_results(self) -> None:
        """Send what is ready, many at a time: what gathers while one batch is on its way is the next."""
        while True:
            if not self._results:
                self._ready.clear()
                await self._ready.wait()
            if self._ports.atomic is None and self._running and self._settings.pack_delay_s > 0:
                await self._ports.clock.sleep(self._settings.pack_delay_s)
            batch = self._results[: self._batch_max]
            del self._results[: len(batch)]
            await self._send(batch)

    async def _send(self, batch: Sequence[TakenTask]) -> None:
        results = [(entry.delivery, entry.message) for entry in batch]
        try:
            await patiently(
                self._ports.clock,
                self._settings,
                "sending activity results",
                lambda: self._ports.activities.finish(results),
                keep_going=self._is_open,
            )
        except PartitionLostError:  # patience ended with the loop: the task will run again
            return
        except Exception:
            if len(batch) > 1:
                for one in batch:
                    await self._send([one])
                return
            task = batch[0].task
            _log.exception("the result of activity %r of %r cannot be sent", task.name, task.instance_id)
            await self._give_back([batch[0].delivery])
        self._leave(*batch)

    def _leave(self, *entries: TakenTask) -> None:
        for entry in entries:
            self._inside.pop(entry.key, None)
        self._room.set()
        if self._stopping and not self._inside:
            self._over.set()

    async def _give_back(self, deliveries: Sequence[ActivityDelivery]) -> None:
        if not deliveries:
            return
        try:
            await self._ports.activities.abandon(deliveries)
        except Exception as error:
            _log.warning("%d activity tasks stay locked until their locks expire: %r", len(deliveries), error)

    async def _keep_locks(self) -> None:
        await keep_locks(self._ports, self._settings, self._inside, self._lock_lost)

    def _lock_lost(self, entry: TakenTask) -> None:
        entry.is_lost = True
        if entry in self._held:
            self._held.remove(entry)
            self._leave(entry)

"""Starting an instance.

A start inserts the instance's row, which makes it durable and its id unique, and then sends a wake-up that carries
nothing the row does not: a client that dies in between has started the instance all the same (DESIGN 3). Where the
queue was full lately, one message more goes first, to see whether there is room: rows must not pile up behind a queue
that takes nothing. Values arrive here as text; they are checked for size before anything is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

import msgspec

from durabletask_azure.core.history import EventRaisedEvent, ExecutionStartedEvent, RuntimeStatus
from durabletask_azure.core.instance import pending_row
from durabletask_azure.core.messages import Message, ReplaceInstance, StartInstance, ToPartition
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.core.rows import InstanceRow, PastExecution
from durabletask_azure.core.state import fold
from durabletask_azure.engine.instances import InstanceReader
from durabletask_azure.engine.operations.asked import Asked
from durabletask_azure.engine.operations.sending import CONFIRM_S, Sending
from durabletask_azure.engine.operations.waiting import Waiting
from durabletask_azure.errors import (
    CommitRefusedError,
    HubUnavailableError,
    OrchestrationAlreadyExistsError,
    OrchestrationNotFoundError,
    QueueFullError,
    ThrottledError,
)
from durabletask_azure.ports import HubPorts, StoredInstance
from durabletask_azure.settings import Settings

__all__ = ["StartRequest", "Starting"]

_ENDED = (RuntimeStatus.COMPLETED, RuntimeStatus.FAILED, RuntimeStatus.TERMINATED)
_encoder = msgspec.json.Encoder()
_log = logging.getLogger("durabletask_azure.client")


class StartRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A new instance: what to run, under which id, with which input (as text), from when on.

    ``event`` is raised to it before its first turn: name and data as text. An instance of that id is replaced if its
    status is in ``replace``, left alone if it is in ``ignore``, and otherwise in the way.
    """

    name: str
    instance_id: str
    version: str | None = None
    input: str | None = None
    tags: dict[str, str] | None = None
    scheduled_start: datetime | None = None
    event: tuple[str, str | None] | None = None
    replace: tuple[RuntimeStatus, ...] = _ENDED
    ignore: tuple[RuntimeStatus, ...] = ()


class Starting:
    """Starts instances of one hub."""

    def __init__(
        self,
        ports: HubPorts,
        settings: Settings,
        sending: Sending,
        instances: InstanceReader,
        waiting: Waiting,
    ) -> None:
        self._ports = ports
        self._settings = settings
        self._sending = sending
        self._instances = instances
        self._waiting = waiting
        self._is_full = False
        """Whether the queue had no room for a wake-up when it was last asked."""

    async def start(self, request: StartRequest) -> str:
        """Start an instance and return its id, or do what the request says about an instance that has the id.

        Raises:
            OrchestrationAlreadyExistsError: an instance of that id is in the way.
            PayloadTooLargeError: a value is over the cap; nothing was written.
            QueueFullError: there was no room for it in time; nothing was written.
            HubUnavailableError: it is unknown whether the instance was started.
        """
        if self._ports.intake is not None:
            await self._ports.intake.admit_start()
        return await self._start(request, *self._pending(request))

    def start_at_once(self, request: StartRequest, asked: Asked[str]) -> bool:
        """Begin a start and have ``asked`` told its id, as :meth:`start` returns it; return false if that takes the
        coroutine from its beginning."""
        express = self._ports.express
        if express is None or self._is_full:
            return False
        begun = _Begun(self._start, asked, request, *self._pending(request))
        partition = self._instances.partition_of(request.instance_id)
        return not begun.uploads and express.begin_start(
            partition, begun.row, self._wake_up(begun.row), begun.told
        )

    async def _start(
        self,
        request: StartRequest,
        started: ExecutionStartedEvent,
        row: InstanceRow,
        uploads: dict[str, bytes],
    ) -> str:
        if self._is_full:
            # Nothing is written until there is room. An owner that meets this one before the row drops it.
            probe = self._wake_up(row, "room")
            await self._sending.retried(lambda: self._send_wake_up(probe))
        await self._sending.upload(uploads)
        deadline = self._ports.clock.monotonic() + self._settings.send_retry_s_max + CONFIRM_S
        while self._ports.clock.monotonic() < deadline:
            try:
                await self._sending.retried(lambda: self._insert(row, None))
                return request.instance_id
            except OrchestrationAlreadyExistsError:
                stored = await self._instances.stored(request.instance_id)
            if stored is None:
                continue  # purged between the two calls
            if _is_ours(stored.row, started.execution_id):
                await self._wake(row)  # the insert had landed, its reply was lost
                return request.instance_id
            if stored.row.status in request.ignore:
                return request.instance_id
            if stored.row.status not in request.replace:
                raise _taken(stored.row)
            if await self._replace(stored, started, row, request.replace):
                return request.instance_id
        raise HubUnavailableError(f"could not start {request.instance_id!r}: its id keeps changing hands")

    def _pending(self, request: StartRequest) -> tuple[ExecutionStartedEvent, InstanceRow, dict[str, bytes]]:
        execution_id = self._sending.new_id()
        now = self._ports.clock.now()
        own = {"instance_id": request.instance_id, "execution_id": execution_id}
        writer = self._sending.writer()
        tags = _encoder.encode(request.tags).decode() if request.tags else None
        started = ExecutionStartedEvent(
            timestamp=now,
            name=request.name,
            instance_id=request.instance_id,
            execution_id=execution_id,
            version=request.version,
            input=writer.store(request.input, **own, what="the input"),
            scheduled_start=request.scheduled_start,
            tags=writer.store(tags, **own, what="the tags"),
        )
        kept: tuple[Message, ...] = ()
        if request.event is not None:
            name, text = request.event
            event_id = stable_id(execution_id, "raised with the start")
            data = writer.store(text, **own, what=f"the data of event {name!r}")
            body = EventRaisedEvent(timestamp=now, name=name, input=data, source_id=event_id)
            kept = (Message(id=event_id, instance_id=request.instance_id, body=body),)
        return started, pending_row(started, created_at=now, kept=kept), writer.uploads

    async def _insert(self, row: InstanceRow, if_match: str | None) -> None:
        """Write a pending row and wake its owner."""
        partition = self._instances.partition_of(row.instance_id)
        if self._ports.atomic is not None:
            await self._ports.atomic.start(partition, row, self._wake_up(row), if_match)
            return
        if if_match is None:
            await self._ports.store.insert_instance(partition, row)
        else:
            await self._ports.store.replace_instance(partition, row, if_match)
        await self._wake(row)

    async def _wake(self, row: InstanceRow) -> None:
        try:
            await self._sending.retried(lambda: self._send_wake_up(self._wake_up(row)))
        except (HubUnavailableError, ThrottledError, QueueFullError) as error:
            # The row is there, so the instance is started: its owner's sweep finds it without the message.
            _log.warning("%r is started, but its wake-up could not be sent: %s", row.instance_id, error)

    async def _send_wake_up(self, wake_up: ToPartition) -> None:
        try:
            await self._ports.orchestrations.send([wake_up])
        except QueueFullError:
            self._is_full = True
            raise
        self._is_full = False

    def _wake_up(self, row: InstanceRow, purpose: str = "start") -> ToPartition:
        message = Message(
            id=stable_id(row.execution_id, purpose), instance_id=row.instance_id, body=StartInstance()
        )
        return ToPartition(
            partition=self._instances.partition_of(row.instance_id),
            message=message,
            deliver_at=row.scheduled_start,
        )

    async def _replace(
        self,
        stored: StoredInstance,
        started: ExecutionStartedEvent,
        row: InstanceRow,
        replace: tuple[RuntimeStatus, ...],
    ) -> bool:
        """Replace an instance; return false if its row changed meanwhile."""
        old = stored.row
        lock = await self._sending.retried(
            lambda: self._ports.store.read_lock(self._instances.partition_of(old.instance_id))
        )
        if not old.status.is_terminal or old.commit > lock.row.sent:
            # A living one is the owner's; and what an old run still has to send is derived from its history.
            return await self._ask_to_replace(old, started, row, replace)
        try:
            state = fold(await self._instances.events(old.instance_id, old.execution_id))
        except OrchestrationNotFoundError:
            return False  # replaced or purged meanwhile
        row = msgspec.structs.replace(
            row,
            past=(
                *old.past,
                PastExecution(
                    old.execution_id,
                    old.segments,
                    old.commit,
                    readable=False,
                    sources=state.started.sources if state.started is not None else (),
                ),
            ),
            seen=state.seen_to_carry(row.created_at, self._settings.seen_ids_s, {}),
        )
        try:
            await self._sending.retried(lambda: self._insert(row, stored.etag))
        except (CommitRefusedError, OrchestrationAlreadyExistsError):
            now = await self._instances.stored(old.instance_id)
            if now is None or not _is_ours(now.row, started.execution_id):
                return False
            await self._wake(row)  # it had landed, its reply was lost
        return True

    async def _ask_to_replace(
        self,
        old: InstanceRow,
        started: ExecutionStartedEvent,
        row: InstanceRow,
        replace: tuple[RuntimeStatus, ...],
    ) -> bool:
        event = next((one.body for one in row.kept if isinstance(one.body, EventRaisedEvent)), None)
        request = ReplaceInstance(
            start=started,
            replace=tuple(status.value for status in replace),
            event=event,
            created_at=old.created_at,
        )
        found_last: InstanceRow | None = None
        message_id = stable_id(started.execution_id, "replace", old.execution_id)
        await self._sending.send(started.instance_id, request, message_id=message_id)

        def settled(found: InstanceRow | None) -> bool:
            nonlocal found_last
            found_last = found
            if found is None or found.created_at != old.created_at or _is_ours(found, started.execution_id):
                return True  # purged, or somebody's run took the place: the request was for the one before
            # The owner terminates a living one before it replaces it.
            return found.status not in (*replace, RuntimeStatus.TERMINATED)

        try:
            await self._waiting.until(started.instance_id, settled, CONFIRM_S)
        except TimeoutError as error:
            raise HubUnavailableError(
                f"no worker confirmed within {CONFIRM_S:.0f} s that {started.instance_id!r} is started again"
            ) from error
        if found_last is None or not _is_ours(found_last, started.execution_id):
            return False  # it has another status by now
        if row.scheduled_start is not None:
            await self._wake(row)
        return True


class _Begun:
    """A start that takes one write, if nothing comes between; else it goes on as all starts do."""

    __slots__ = ("_asked", "_go_on", "_request", "_started", "row", "uploads")

    def __init__(
        self,
        go_on: Callable[..., Coroutine[Any, Any, str]],
        asked: Asked[str],
        request: StartRequest,
        started: ExecutionStartedEvent,
        row: InstanceRow,
        uploads: dict[str, bytes],
    ) -> None:
        self._go_on = go_on
        self._asked = asked
        self._request = request
        self._started = started
        self.row = row
        self.uploads = uploads

    def told(self, outcome: str | Exception) -> None:
        if isinstance(outcome, str):
            self._asked.answer(self._request.instance_id)
        else:
            # It may have landed: what is tried again is the same run of the instance, and known by its id.
            self._asked.go_on(lambda: self._go_on(self._request, self._started, self.row, self.uploads))


def _is_ours(row: InstanceRow, execution_id: str) -> bool:
    return row.execution_id == execution_id or any(past.execution_id == execution_id for past in row.past)


def _taken(row: InstanceRow) -> OrchestrationAlreadyExistsError:
    return OrchestrationAlreadyExistsError(
        f"an orchestration instance {row.instance_id!r} already exists and is {row.status.value}"
    )

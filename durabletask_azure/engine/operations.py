"""What clients do to instances: start, raise, terminate, suspend, resume, purge, and wait.

A start inserts the instance's row, which makes it durable and its id unique, and then sends a wake-up that carries
nothing the row does not: a client that dies in between has started the instance all the same (DESIGN 3). Everything
else is a message to the partition's owner under an id made here once, so that repeating a call is harmless. Values
arrive here as text; they are checked for size before anything is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from durabletask_azure.core.history import (
    EventRaisedEvent,
    ExecutionResumedEvent,
    ExecutionStartedEvent,
    ExecutionSuspendedEvent,
    ExecutionTerminatedEvent,
    RuntimeStatus,
    SubOrchestrationInstanceCreatedEvent,
)
from durabletask_azure.core.instance import pending_row
from durabletask_azure.core.messages import (
    Message,
    MessageBody,
    PurgeInstance,
    ReplaceInstance,
    StartInstance,
    ToPartition,
)
from durabletask_azure.core.partitioning import partition_of, stable_id
from durabletask_azure.core.payloads import ANY_EXECUTION, Payload, PayloadWriter
from durabletask_azure.core.rows import InstanceRow, PastExecution
from durabletask_azure.core.state import fold
from durabletask_azure.engine.attempts import retried
from durabletask_azure.engine.instances import InstanceReader
from durabletask_azure.errors import (
    CommitRefusedError,
    HubUnavailableError,
    OrchestrationAlreadyExistsError,
    OrchestrationNotFoundError,
    QueueFullError,
    ThrottledError,
)
from durabletask_azure.ports import HubPorts, InstanceFilter, StoredInstance
from durabletask_azure.settings import Settings

__all__ = ["ClientOperations", "StartRequest"]

T = TypeVar("T")

_CONFIRM_S = 30.0
_PURGES_MAX = 200
_ENDED = (RuntimeStatus.COMPLETED, RuntimeStatus.FAILED, RuntimeStatus.TERMINATED)
_encoder = msgspec.json.Encoder()
_log = logging.getLogger("durabletask_azure.client")


class StartRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A new instance: what to run, under which id, with which input (as text), from when on.

    ``event`` is raised to it before its first turn: name and data as text.
    """

    name: str
    instance_id: str
    version: str | None = None
    input: str | None = None
    tags: dict[str, str] | None = None
    scheduled_start: datetime | None = None
    event: tuple[str, str | None] | None = None


class ClientOperations:
    """A client's calls on the ports of one hub. ``new_id`` makes ids that never repeat."""

    def __init__(self, ports: HubPorts, settings: Settings, new_id: Callable[[], str]) -> None:
        self._ports = ports
        self._settings = settings
        self._new_id = new_id
        self.instances = InstanceReader(ports, settings)

    # ------------------------------------------------------------------ starting

    async def start(self, request: StartRequest) -> str:
        """Start an instance and return its id. An ended instance of that id is replaced.

        Raises:
            OrchestrationAlreadyExistsError: an instance of that id is alive.
            PayloadTooLargeError: a value is over the cap; nothing was written.
            HubUnavailableError: it is unknown whether the instance was started.
        """
        started, row, uploads = self._pending(request)
        await self._upload(uploads)
        deadline = self._ports.clock.monotonic() + self._settings.send_retry_s_max + _CONFIRM_S
        while self._ports.clock.monotonic() < deadline:
            try:
                await self._retried(lambda: self._insert(row, None))
                return request.instance_id
            except OrchestrationAlreadyExistsError:
                stored = await self.instances.stored(request.instance_id)
            if stored is None:
                continue  # purged between the two calls
            if _is_ours(stored.row, started.execution_id):
                await self._wake(row)  # the insert had landed, its reply was lost
                return request.instance_id
            if not stored.row.status.is_terminal:
                raise _taken(stored.row)
            if await self._replace(stored, started, row):
                return request.instance_id
        raise HubUnavailableError(f"could not start {request.instance_id!r}: its id keeps changing hands")

    def _pending(self, request: StartRequest) -> tuple[ExecutionStartedEvent, InstanceRow, dict[str, bytes]]:
        execution_id = self._new_id()
        now = self._ports.clock.now()
        own = {"instance_id": request.instance_id, "execution_id": execution_id}
        writer = self._writer()
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
        partition = self.instances.partition_of(row.instance_id)
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
            await self._retried(lambda: self._ports.orchestrations.send([self._wake_up(row)]))
        except (HubUnavailableError, ThrottledError, QueueFullError) as error:
            # The row is there, so the instance is started: its owner's sweep finds it without the message.
            _log.warning("%r is started, but its wake-up could not be sent: %s", row.instance_id, error)

    def _wake_up(self, row: InstanceRow) -> ToPartition:
        message = Message(
            id=stable_id(row.execution_id, "start"), instance_id=row.instance_id, body=StartInstance()
        )
        return ToPartition(
            partition=self.instances.partition_of(row.instance_id),
            message=message,
            deliver_at=row.scheduled_start,
        )

    async def _replace(
        self, stored: StoredInstance, started: ExecutionStartedEvent, row: InstanceRow
    ) -> bool:
        """Replace an ended instance; return false if its row changed meanwhile."""
        old = stored.row
        lock = await self._retried(
            lambda: self._ports.store.read_lock(self.instances.partition_of(old.instance_id))
        )
        if old.commit > lock.row.sent:
            # What the old run still has to send is derived from its history: only the owner may take that away.
            await self._ask_to_replace(started, row)
            return True
        state = fold(await self.instances.events(old.instance_id, old.execution_id))
        row = msgspec.structs.replace(
            row,
            past=(*old.past, PastExecution(old.execution_id, old.segments, old.commit, readable=False)),
            seen=state.seen_to_carry(row.created_at, self._settings.seen_ids_s, {}),
        )
        try:
            await self._retried(lambda: self._insert(row, stored.etag))
        except (CommitRefusedError, OrchestrationAlreadyExistsError):
            now = await self.instances.stored(old.instance_id)
            return now is not None and _is_ours(now.row, started.execution_id)
        return True

    async def _ask_to_replace(self, started: ExecutionStartedEvent, row: InstanceRow) -> None:
        request = ReplaceInstance(start=started, replace=tuple(status.value for status in _ENDED))
        message_id = stable_id(started.execution_id, "replace")
        await self._send(started.instance_id, request, message_id=message_id)

        def ours(found: InstanceRow | None) -> bool:
            if (
                found is not None
                and not found.status.is_terminal
                and not _is_ours(found, started.execution_id)
            ):
                raise _taken(found)
            return found is not None and _is_ours(found, started.execution_id)

        try:
            await self._wait(started.instance_id, ours, _CONFIRM_S)
        except TimeoutError as error:
            raise HubUnavailableError(
                f"no worker confirmed within {_CONFIRM_S:.0f} s that {started.instance_id!r} is started again"
            ) from error
        # The request had no room for these.
        for message in row.kept:
            await self._send(row.instance_id, message.body, message_id=message.id)
        if row.scheduled_start is not None:
            await self._wake(row)

    # ------------------------------------------------------------------ messages

    async def raise_event(self, instance_id: str, name: str, text: str | None, event_id: str | None) -> None:
        """Send an event; one of an ``event_id`` seen before is not counted. An unknown instance is no error."""
        writer = self._writer()
        body = EventRaisedEvent(
            timestamp=self._ports.clock.now(),
            name=name,
            input=writer.store(
                text, instance_id=instance_id, execution_id=ANY_EXECUTION, what=f"the data of event {name!r}"
            ),
            source_id=event_id if event_id is not None else self._new_id(),
        )
        await self._order(instance_id, body, writer)

    async def terminate(self, instance_id: str, text: str | None, *, recursive: bool) -> None:
        """Order an instance, and with ``recursive`` its sub-orchestrations, to end with the given output."""
        writer = self._writer()
        body = ExecutionTerminatedEvent(
            timestamp=self._ports.clock.now(),
            input=writer.store(
                text, instance_id=instance_id, execution_id=ANY_EXECUTION, what="the output of a termination"
            ),
            recurse=recursive,
            source_id=self._new_id(),
        )
        await self._order(instance_id, body, writer)

    async def suspend(self, instance_id: str, reason: str | None) -> None:
        """Order an instance to pause: what arrives is kept until it is resumed."""
        writer = self._writer()
        body = ExecutionSuspendedEvent(
            timestamp=self._ports.clock.now(),
            input=self._reason(instance_id, reason, writer),
            source_id=self._new_id(),
        )
        await self._order(instance_id, body, writer)

    async def resume(self, instance_id: str, reason: str | None) -> None:
        """Order a suspended instance to go on."""
        writer = self._writer()
        body = ExecutionResumedEvent(
            timestamp=self._ports.clock.now(),
            input=self._reason(instance_id, reason, writer),
            source_id=self._new_id(),
        )
        await self._order(instance_id, body, writer)

    # ------------------------------------------------------------------ waiting

    async def wait_for_start(self, instance_id: str, timeout_s: float) -> InstanceRow:
        """Return the row once the instance has left PENDING. Raises ``TimeoutError``."""
        return await self._wait_until(
            instance_id, lambda row: row.status is not RuntimeStatus.PENDING, timeout_s, "start"
        )

    async def wait_for_completion(self, instance_id: str, timeout_s: float) -> InstanceRow:
        """Return the row once the instance has ended. Raises ``TimeoutError``."""
        return await self._wait_until(instance_id, lambda row: row.status.is_terminal, timeout_s, "complete")

    async def _wait_until(
        self, instance_id: str, done: Callable[[InstanceRow], bool], timeout_s: float, what: str
    ) -> InstanceRow:
        row: InstanceRow | None = None

        def look(found: InstanceRow | None) -> bool:
            nonlocal row
            row = found
            return found is not None and done(found)

        try:
            await self._wait(instance_id, look, timeout_s)
        except TimeoutError:
            unknown = f": there is no instance {instance_id!r}" if row is None else ""
            raise TimeoutError(f"Timed-out waiting for the orchestration to {what}{unknown}") from None
        assert row is not None
        return row

    async def _wait(
        self, instance_id: str, done: Callable[[InstanceRow | None], bool], timeout_s: float
    ) -> None:
        """Look at a row until ``done(row)``, woken by its changes and by a poll that slows down."""
        clock, settings = self._ports.clock, self._settings
        partition = self.instances.partition_of(instance_id)
        deadline = clock.monotonic() + timeout_s
        pause_s = settings.poll_s_min
        while True:
            stored = await self.instances.stored(instance_id)
            if done(None if stored is None else stored.row):
                return
            left_s = deadline - clock.monotonic()
            if left_s <= 0:
                raise TimeoutError
            await self._ports.changes.wait(partition, instance_id, min(pause_s, left_s))
            pause_s = min(pause_s * 2, settings.poll_s_max)

    # ------------------------------------------------------------------ purging

    async def purge(self, instance_id: str, *, recursive: bool) -> tuple[int, bool]:
        """Remove an ended instance; return how many instances went, and whether all that were to go did.

        With ``recursive`` the ended sub-orchestrations it started go too. A living or unknown one is left alone.
        """
        stored = await self.instances.stored(instance_id)
        if stored is None or not stored.row.status.is_terminal:
            return 0, True
        doomed = [stored.row]
        if recursive:
            await self._add_children(doomed)
        return await self._purge(doomed, self._ports.clock.monotonic() + _CONFIRM_S)

    async def purge_by(
        self, where: InstanceFilter, *, recursive: bool, timeout_s: float | None
    ) -> tuple[int, bool]:
        """Remove all ended instances that fit; return as :meth:`purge`, false also when the time was up."""
        clock = self._ports.clock
        end = None if timeout_s is None else clock.monotonic() + timeout_s
        gone, complete = 0, True
        async for rows in self.instances.all(where, page_size=_PURGES_MAX):
            if end is not None and clock.monotonic() >= end:
                return gone, False
            doomed = [row for row in rows if row.status.is_terminal]
            if recursive:
                await self._add_children(doomed)
            confirm_by = clock.monotonic() + _CONFIRM_S
            removed, all_gone = await self._purge(doomed, confirm_by if end is None else min(end, confirm_by))
            gone, complete = gone + removed, complete and all_gone
            if not (removed or all_gone):  # nobody is there: every further page would be waited for in vain
                break
        return gone, complete

    async def _purge(self, doomed: Sequence[InstanceRow], deadline: float) -> tuple[int, bool]:
        await asyncio.gather(*(self._order_purge(row) for row in doomed))
        results = await asyncio.gather(*(self._gone(row, deadline) for row in doomed))
        return sum(results), all(results)

    async def _order_purge(self, row: InstanceRow) -> None:
        # Each row is asked for by itself: a cascade of the owner's would go on after this call has returned.
        await self._send(
            row.instance_id,
            PurgeInstance(),
            message_id=stable_id(row.execution_id, "purge", self._new_id()),
            execution_id=row.execution_id,
        )

    async def _gone(self, row: InstanceRow, deadline: float) -> bool:
        left_s = max(0.0, deadline - self._ports.clock.monotonic())
        try:
            await self._wait(
                row.instance_id, lambda now: now is None or now.execution_id != row.execution_id, left_s
            )
        except TimeoutError:
            return False
        return True

    async def _add_children(self, doomed: list[InstanceRow]) -> None:
        """Add the ended sub-orchestrations of each row, and theirs, once each."""
        known = {row.instance_id for row in doomed}
        for row in doomed:  # grows while it is gone through
            for child in await self._children(row):
                stored = None if child in known else await self.instances.stored(child)
                if stored is None or not stored.row.status.is_terminal:
                    continue
                parent = stored.row.parent
                if parent is not None and parent.instance_id == row.instance_id:
                    known.add(child)
                    doomed.append(stored.row)

    async def _children(self, row: InstanceRow) -> list[str]:
        children: dict[str, None] = {}
        for execution_id in (*(past.execution_id for past in row.past if past.readable), row.execution_id):
            try:
                events = await self.instances.events(row.instance_id, execution_id)
            except OrchestrationNotFoundError:
                continue  # purged or trimmed meanwhile
            for event in events:
                if isinstance(event, SubOrchestrationInstanceCreatedEvent):
                    children[event.instance_id] = None
        return list(children)

    # ------------------------------------------------------------------ sending

    async def _order(self, instance_id: str, body: MessageBody, writer: PayloadWriter) -> None:
        await self._upload(writer.uploads)
        await self._send(instance_id, body, message_id=self._new_id())

    async def _send(
        self,
        instance_id: str,
        body: MessageBody,
        *,
        message_id: str,
        execution_id: str | None = None,
    ) -> None:
        outbound = ToPartition(
            partition=partition_of(instance_id, self._ports.info.partitions),
            message=Message(id=message_id, instance_id=instance_id, body=body, execution_id=execution_id),
        )
        await self._retried(lambda: self._ports.orchestrations.send([outbound]))

    def _writer(self) -> PayloadWriter:
        return PayloadWriter(
            partitions=self._ports.info.partitions,
            inline_bytes_max=self._settings.payload_inline_bytes_max,
            bytes_max=self._settings.payload_bytes_max,
        )

    def _reason(self, instance_id: str, reason: str | None, writer: PayloadWriter) -> Payload:
        return writer.store(reason, instance_id=instance_id, execution_id=ANY_EXECUTION, what="the reason")

    async def _upload(self, uploads: dict[str, bytes]) -> None:
        for name, data in uploads.items():
            await self._retried(lambda name=name, data=data: self._ports.payloads.put(name, data))

    async def _retried(self, call: Callable[[], Awaitable[T]]) -> T:
        return await retried(call, self._ports.clock, self._settings.send_retry_s_max)


def _is_ours(row: InstanceRow, execution_id: str) -> bool:
    return row.execution_id == execution_id or any(past.execution_id == execution_id for past in row.past)


def _taken(row: InstanceRow) -> OrchestrationAlreadyExistsError:
    return OrchestrationAlreadyExistsError(
        f"an orchestration instance {row.instance_id!r} already exists and is {row.status.value}"
    )

"""Brings instances and their spilled values from storage, as far as a turn needs them; stores those of turns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import TypeVar

import msgspec

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import HistoryEvent, TaskCompletedEvent, replay_refs
from durabletask_azure.core.instance import Instance
from durabletask_azure.core.messages import (
    ContinuedChild,
    FailInstance,
    Inbound,
    Message,
    PurgeInstance,
    ReplaceInstance,
    ResetInstance,
    RewindInstance,
    StartInstance,
)
from durabletask_azure.core.payloads import BlobRef, check_own
from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.core.turn import Turn
from durabletask_azure.engine.counters import Counters
from durabletask_azure.engine.retrying import patiently
from durabletask_azure.errors import HistoryMissingError, PayloadMissingError
from durabletask_azure.ports import HubPorts, ReadsTogether, StoredInstance
from durabletask_azure.settings import Settings

__all__ = ["Loader", "UnreadableRowError", "needed_refs"]

T = TypeVar("T")
_log = logging.getLogger("durabletask_azure.engine.loader")


class UnreadableRowError(Exception):
    """A row or its history cannot be decoded: written by a newer version, or damaged."""


class Loader:
    """Reads for one partition owner, patiently, as long as it owns the partition."""

    def __init__(
        self,
        ports: HubPorts,
        settings: Settings,
        counters: Counters,
        *,
        partition: int,
        keep_going: Callable[[], bool],
    ) -> None:
        self.unstored: dict[str, bytes] = {}
        """Values of turns whose commit has not stored them yet: the next turn may need them before."""
        self._ports = ports
        self._settings = settings
        self._counters = counters
        self._partition = partition
        self._keep_going = keep_going
        self._together = ports.store if isinstance(ports.store, ReadsTogether) else None

    async def instance(self, instance_id: str, *, is_whole: bool = True) -> Instance:
        """Return the instance as storage has it, absent ones too; one that has ended without its history unless whole.

        Raises:
            UnreadableRowError: it cannot be decoded.
            PartitionLostError: the partition was given up while waiting for storage.
        """
        self._counters.instances_loaded += 1
        return await self._patiently(
            f"loading instance {instance_id!r}", lambda: self._read(instance_id, is_whole)
        )

    async def instances(
        self, instance_ids: Sequence[str], whole: Collection[str]
    ) -> list[Instance | BaseException]:
        """Return :meth:`instance` of each, those in ``whole`` whole, or what it raises; in the same order."""
        loaded: dict[str, Instance | BaseException] = {}
        together = self._together
        if together is not None and len(instance_ids) > 1:
            found = await self._patiently(
                "loading instances", lambda: together.read_instances(self._partition, instance_ids)
            )
            for instance_id, stored in found.items():
                instance = _loaded(instance_id, stored)
                if instance is not None:
                    self._counters.instances_loaded += 1
                    loaded[instance_id] = instance
        left = [instance_id for instance_id in instance_ids if instance_id not in loaded]
        loading = [self.instance(instance_id, is_whole=instance_id in whole) for instance_id in left]
        results = await asyncio.gather(*loading, return_exceptions=True) if loading else ()
        loaded.update(zip(left, results, strict=True))
        return [loaded[instance_id] for instance_id in instance_ids]

    async def _read(self, instance_id: str, is_whole: bool) -> Instance:
        store = self._ports.store
        failed_at: str | None = None
        while True:
            try:
                stored = await store.read_instance(self._partition, instance_id)
                if stored is None:
                    return Instance(instance_id, await store.read_tombstone(self._partition, instance_id))
                if stored.row.instance_id != instance_id:
                    raise UnreadableRowError(
                        f"the row of instance {instance_id!r} is of {stored.row.instance_id!r}"
                    )
                if not is_whole and stored.row.status.is_terminal:
                    return Instance.ended(stored.row, stored.etag)
                try:
                    return Instance.load(stored.row, stored.etag, await self._segments(stored))
                except HistoryMissingError:
                    if stored.etag == failed_at:
                        raise
                    failed_at = stored.etag  # it may have been the row of a moment ago
            except (msgspec.DecodeError, HistoryMissingError) as error:
                raise UnreadableRowError(f"instance {instance_id!r} cannot be read: {error}") from error

    async def _segments(self, stored: StoredInstance) -> bytes:
        row = stored.row
        if not row.segments:
            return b""
        return await self._ports.store.read_segments(
            self._partition, row.instance_id, row.execution_id, row.segments
        )

    async def values(
        self, instance: Instance, refs: Sequence[BlobRef]
    ) -> tuple[dict[str, str], FailureDetails | None]:
        """Return spilled values by name; and, if one is lost for good, the failure that makes."""
        loaded: dict[str, str] = {}
        try:
            for name, ref in {ref.name: ref for ref in refs}.items():
                if name in self.unstored:
                    loaded[name] = self.unstored[name].decode()
                    continue
                check_own(ref, self._partition, instance.instance_id)
                self._counters.payloads_got += 1
                data = await self._patiently(f"reading payload {name}", lambda ref=ref: self._get(ref))
                loaded[name] = data.decode()
        except (PayloadMissingError, UnicodeDecodeError) as error:
            _log.error("instance %r: %s", instance.instance_id, error)
            return loaded, FailureDetails(message=str(error), error_type="PayloadMissingError")
        return loaded, None

    async def store(self, turns: Iterable[Turn]) -> None:
        """Store the values that turns refer to."""
        for name, data in {name: data for turn in turns for name, data in turn.uploads.items()}.items():
            self._counters.payloads_put += 1
            await self._patiently(
                f"storing payload {name}", lambda name=name, data=data: self._ports.payloads.put(name, data)
            )
            self.unstored.pop(name, None)

    async def _get(self, ref: BlobRef) -> bytes:
        return await self._ports.payloads.get(ref.name, ref.size)

    async def _patiently(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        return await patiently(self._ports.clock, self._settings, what, call, keep_going=self._keep_going)


def _loaded(instance_id: str, stored: StoredInstance) -> Instance | None:
    """Return the instance of a row that needs nothing else; ``None`` if there is more to read, or to complain of."""
    row = stored.row
    if row.segments or row.instance_id != instance_id:
        return None
    try:
        return Instance.load(row, stored.etag, b"")
    except msgspec.DecodeError:
        return None


def needed_refs(instance: Instance, inbound: Sequence[Inbound]) -> Sequence[BlobRef]:
    """Return the references a turn may have to resolve: of the messages, of a pending start, of a cold history."""
    row = instance.row
    if len(inbound) == 1 and row is not None and not row.kept:  # the two that are usual
        body = inbound[0].message.body
        if type(body) is StartInstance and instance.state.started is None and not row.status.is_terminal:
            return [value for value in (row.input, row.tags) if type(value) is BlobRef]
        if (
            type(body) is TaskCompletedEvent
            and instance.execution is not None
            and type(body.result) is not BlobRef
        ):
            return ()
    if row is not None and row.status.is_terminal and instance.state.started is None:
        return ()  # without its history: it takes none of these
    messages = [one.message for one in inbound]
    if row is not None and not instance.cold and not row.kept and instance.state.started is not None:
        # The usual case: a warm instance. One that has ended may be taken up again where it failed.
        return (*_refs_of(messages, row.execution_id), *_failure_refs(row, messages))
    refs: list[BlobRef] = [*replay_refs(instance.cold)] if instance.cold else []
    refs.extend(_refs_of((*messages, *(row.kept if row else ())), row.execution_id if row else None))
    if row is not None and instance.state.started is None:
        refs.extend(value for value in (row.input, row.tags) if isinstance(value, BlobRef))
    return refs


def _failure_refs(row: InstanceRow, messages: Sequence[Message]) -> Sequence[BlobRef]:
    if not isinstance(row.failure, BlobRef):
        return ()
    is_needed = any(isinstance(message.body, (RewindInstance, ContinuedChild)) for message in messages)
    return (row.failure,) if is_needed else ()


def _refs_of(messages: Iterable[Message], execution_id: str | None) -> Sequence[BlobRef]:
    events: list[HistoryEvent] = []
    for message in messages:
        if message.execution_id is not None and message.execution_id != execution_id:
            continue  # it will be dropped, and its values may be gone with the execution it was meant for
        body = message.body
        if isinstance(body, (ReplaceInstance, ContinuedChild)):
            events.append(body.start)
            if isinstance(body, ReplaceInstance) and body.event is not None:
                events.append(body.event)
        elif not isinstance(
            body, (StartInstance, PurgeInstance, FailInstance, RewindInstance, ResetInstance)
        ):
            events.append(body)
    return replay_refs(events)

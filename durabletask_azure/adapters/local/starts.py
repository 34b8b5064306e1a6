"""Starts of instances: those that are asked for in one round of the event loop are written together.

A client that starts hundreds of instances at once would else have a request, and some statements, for each of them.
Each start succeeds or fails for itself all the same: when one is refused, all of them are tried alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from durabletask_azure.adapters.local.committer import Committer, Transaction
from durabletask_azure.adapters.local.handover import Handover
from durabletask_azure.adapters.local.rows import (
    StoredOutbound,
    StoredWrites,
    stored_outbound,
    stored_writes,
    write_outbound,
    write_rows,
)
from durabletask_azure.core.messages import Outbound
from durabletask_azure.core.rows import InstanceRow, PutInstance
from durabletask_azure.errors import CommitRefusedError, OrchestrationAlreadyExistsError

__all__ = ["Starts"]


class _Start:
    __slots__ = ("etag", "instance_id", "is_insert", "outbound", "writes")

    def __init__(
        self, partition: int, row: InstanceRow, if_match: str | None, wake_ups: Sequence[Outbound]
    ) -> None:
        self.instance_id = row.instance_id
        self.is_insert = if_match is None
        self.writes = stored_writes(partition, (PutInstance(row, if_match),))
        self.outbound = stored_outbound(wake_ups)
        self.etag: asyncio.Future[str] = asyncio.get_running_loop().create_future()


class Starts:
    """Writes clients' rows with the messages that wake their owners."""

    def __init__(self, committer: Committer, handover: Handover) -> None:
        self._committer = committer
        self._handover = handover
        self._gathering: dict[asyncio.AbstractEventLoop, list[_Start]] = {}
        """By the loop they are asked for on: of every other one only what belongs to it is touched."""
        self._writing: set[asyncio.Task[None]] = set()

    async def put(
        self, partition: int, row: InstanceRow, if_match: str | None, wake_ups: Sequence[Outbound] = ()
    ) -> str:
        """Insert or replace a client's row and send its wake-up; return the ETag. Errors as the port names them."""
        start = _Start(partition, row, if_match, wake_ups)
        loop = start.etag.get_loop()
        gathering = self._gathering.get(loop)
        if gathering is None:
            self._gathering[loop] = [start]
            loop.call_soon(self._begin, loop)
        else:
            gathering.append(start)
        return await start.etag

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(self._write(self._gathering.pop(loop)))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, starts: Sequence[_Start]) -> None:
        if len(starts) > 1:
            try:
                etags = await self._submit(_joined(starts), [start.outbound for start in starts])
            except CommitRefusedError:
                pass
            except Exception as error:
                _fail(starts, error)
                return
            else:
                for start in starts:
                    if not start.etag.done():
                        start.etag.set_result(etags[start.instance_id])
                return
        for start in starts:
            try:
                etag = await self._write_one(start)
            except Exception as error:
                _fail((start,), error)
            else:
                if not start.etag.done():
                    start.etag.set_result(etag)

    async def _write_one(self, start: _Start) -> str:
        try:
            return (await self._submit(start.writes, (start.outbound,)))[start.instance_id]
        except CommitRefusedError as error:
            if start.is_insert and error.conflict:
                raise OrchestrationAlreadyExistsError(
                    f"there is an orchestration instance {start.instance_id!r}"
                ) from error
            raise

    async def _submit(self, writes: StoredWrites, outbound: Sequence[StoredOutbound]) -> dict[str, str]:
        sends = _together(outbound)

        def work(transaction: Transaction) -> dict[str, str]:
            etags = write_rows(transaction, writes)
            write_outbound(transaction, sends, self._handover)
            return etags

        return await self._committer.submit(work)


def _joined(starts: Sequence[_Start]) -> StoredWrites:
    joined = StoredWrites()
    for start in starts:
        joined.inserted += start.writes.inserted
        joined.replaced += start.writes.replaced
        joined.topics += start.writes.topics
    return joined


def _together(parts: Sequence[StoredOutbound]) -> StoredOutbound:
    together = StoredOutbound()
    for part in parts:
        together.messages += part.messages
        together.tasks += part.tasks
        together.topics |= part.topics
    return together


def _fail(starts: Sequence[_Start], error: Exception) -> None:
    for start in starts:
        if not start.etag.done():
            start.etag.set_exception(error)

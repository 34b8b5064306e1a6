"""Starts of instances: those that are asked for in one round of the event loop are written together.

A client that starts hundreds of instances at once would else have a request, and some statements, for each of them.
Each start succeeds or fails for itself all the same: when one is refused, all of them are tried alone. The end of an
instance that is begun here is listened for from before it can come (``ends.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from durabletask_azure.adapters.local.bell import Bell, ended
from durabletask_azure.adapters.local.committer import Committer, Transaction
from durabletask_azure.adapters.local.handover import Handover
from durabletask_azure.adapters.local.rows import (
    StoredWrites,
    stored_outbound,
    stored_writes,
    write_outbound,
    write_rows,
)
from durabletask_azure.core.messages import Outbound
from durabletask_azure.core.rows import InstanceRow, PutInstance
from durabletask_azure.errors import CommitRefusedError, OrchestrationAlreadyExistsError

__all__ = ["Outcome", "Starts"]

Outcome = Callable[[str | Exception], None]
"""Is told the ETag of what was written, or why nothing was."""


class _Start:
    __slots__ = ("partition", "told", "wake_ups", "write")

    def __init__(
        self, partition: int, write: PutInstance, wake_ups: Sequence[Outbound], told: Outcome
    ) -> None:
        self.partition = partition
        self.write = write
        self.wake_ups = wake_ups
        self.told = told


class Starts:
    """Writes clients' rows with the messages that wake their owners."""

    def __init__(self, committer: Committer, handover: Handover, bell: Bell) -> None:
        self._committer = committer
        self._handover = handover
        self._bell = bell
        self._gathering: dict[asyncio.AbstractEventLoop, list[_Start]] = {}
        """By the loop they are asked for on: of every other one only what belongs to it is touched."""
        self._writing: set[asyncio.Task[None]] = set()

    async def put(
        self, partition: int, row: InstanceRow, if_match: str | None, wake_ups: Sequence[Outbound] = ()
    ) -> str:
        """Insert or replace a client's row and send its wake-up; return the ETag. Errors as the port names them."""
        etag: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def told(outcome: str | Exception) -> None:
            if etag.done():
                return
            if isinstance(outcome, str):
                etag.set_result(outcome)
            else:
                etag.set_exception(outcome)

        self.begin(partition, row, if_match, wake_ups, told)
        return await etag

    def begin(
        self,
        partition: int,
        row: InstanceRow,
        if_match: str | None,
        wake_ups: Sequence[Outbound],
        told: Outcome,
    ) -> None:
        """Do :meth:`put` with the others of this round of the running loop, in which ``told`` is called."""
        loop = asyncio.get_running_loop()
        start = _Start(partition, PutInstance(row, if_match), wake_ups, told)
        gathering = self._gathering.get(loop)
        if gathering is None:
            self._gathering[loop] = [start]
            loop.call_soon(self._begin, loop)
        else:
            gathering.append(start)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(self._write(self._gathering.pop(loop)))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, starts: Sequence[_Start]) -> None:
        try:
            etags = await self._submit(starts)
        except CommitRefusedError as error:
            if len(starts) > 1:
                for start in starts:
                    await self._write((start,))
            else:
                _tell_all(starts, _refusal(starts[0], error))
        except Exception as error:
            _tell_all(starts, error)
        else:
            for start in starts:
                start.told(etags[start.write.row.instance_id])

    async def _submit(self, starts: Sequence[_Start]) -> dict[str, str]:
        writes = _stored(starts)
        sends = stored_outbound([wake_up for start in starts for wake_up in start.wake_ups])
        ends = [ended(start.write.row.instance_id) for start in starts if start.write.if_match is None]

        def work(transaction: Transaction) -> dict[str, str]:
            etags = write_rows(transaction, writes)
            write_outbound(transaction, sends, self._handover)
            return etags

        self._bell.note(ends)
        is_written = False
        try:
            etags = await self._committer.submit(work)
            is_written = True
            return etags
        finally:
            self._bell.confirm(ends, silent=is_written)


def _stored(starts: Sequence[_Start]) -> StoredWrites:
    """Return the SQL of what is started. Raises ``CommitRefusedError``."""
    by_partition: dict[int, list[PutInstance]] = {}
    for start in starts:
        by_partition.setdefault(start.partition, []).append(start.write)
    joined = StoredWrites()
    for partition, writes in by_partition.items():
        stored = stored_writes(partition, writes)
        joined.inserted += stored.inserted
        joined.replaced += stored.replaced
        joined.topics += stored.topics
    return joined


def _refusal(start: _Start, error: CommitRefusedError) -> Exception:
    if start.write.if_match is not None or not error.conflict:
        return error
    refusal = OrchestrationAlreadyExistsError(
        f"there is an orchestration instance {start.write.row.instance_id!r}"
    )
    refusal.__cause__ = error
    return refusal


def _tell_all(starts: Sequence[_Start], error: Exception) -> None:
    for start in starts:
        start.told(error)

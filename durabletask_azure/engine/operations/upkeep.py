"""What people who look after a hub do: read its counts, look at dead letters and have them sent again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from durabletask_azure.core.messages import Message, ToActivities
from durabletask_azure.core.partitioning import partition_of, stable_id
from durabletask_azure.engine.attempts import retried
from durabletask_azure.engine.operations.sending import Sending
from durabletask_azure.errors import DeadLetterNotFoundError, DeadLetterUnreadableError
from durabletask_azure.ports import ArchivedLetter, HubCounts, HubPorts, WorkerRow
from durabletask_azure.settings import Settings

__all__ = ["Upkeep"]

T = TypeVar("T")


class Upkeep:
    """Reads the counts and the dead letters of one hub."""

    def __init__(self, ports: HubPorts, settings: Settings, sending: Sending) -> None:
        self._ports = ports
        self._settings = settings
        self._sending = sending

    async def counts(self) -> tuple[HubCounts, Sequence[WorkerRow]]:
        """Return what the hub counts about itself, and its living workers."""
        counts = await self._retried(self._ports.statistics.count)
        return counts, await self._retried(self._ports.membership.workers)

    async def dead_letters(self) -> Sequence[ArchivedLetter]:
        """Return the kept dead letters, the one kept longest first."""
        return await self._retried(self._ports.archive.kept)

    async def redrive(self, letter_id: str) -> list[str]:
        """Send what a dead letter carries again, under new ids, and forget it; return the new ids.

        The new ids follow from the old ones and the letter, so doing it twice at once sends the same messages twice.

        Raises:
            DeadLetterNotFoundError: there is no such letter. DeadLetterUnreadableError: this version cannot read it.
        """
        archive = self._ports.archive
        found = await self._retried(lambda: archive.find(letter_id))
        if found is None:
            raise DeadLetterNotFoundError(f"there is no kept dead letter {letter_id!r}")
        letter = found.letter
        if letter.task is not None:
            task = letter.task
            task = msgspec.structs.replace(
                task, id=stable_id(task.id, "redriven", letter_id), redriven=task.redriven + 1, deliveries=0
            )
            await self._retried(lambda: self._ports.activities.send([ToActivities(task=task)]))
            sent = [task.id]
        elif letter.messages:
            sent = [await self._send_again(message, letter_id) for message in letter.messages]
        else:
            raise DeadLetterUnreadableError(
                f"the dead letter {letter_id!r} cannot be read by this version: {letter.description}"
            )
        await self._retried(lambda: archive.remove(letter_id))
        return sent

    async def _send_again(self, message: Message, letter_id: str) -> str:
        again = msgspec.structs.replace(
            message, id=stable_id(message.id, "redriven", letter_id), redriven=message.redriven + 1, parked=0
        )
        partition = partition_of(message.instance_id, self._ports.info.partitions)
        await self._sending.send_all(partition, [again])
        return again.id

    async def _retried(self, call: Callable[[], Awaitable[T]]) -> T:
        return await retried(call, self._ports.clock, self._settings.send_retry_s_max)

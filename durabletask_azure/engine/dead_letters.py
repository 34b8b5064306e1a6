"""Looks after what the broker or the engine put aside, for the whole hub: nothing ends there in silence (B126, F30).

A message that died beside a poison one is sent again under a new id, once; one that was being handled alone, or dies a
second time, fails the instance it names, visibly. A task that was handed out too often becomes the failure of its
activity. What merely expired is sent again. Messages sent here have ids made from what they answer to, so any number of
readers may do the same work. A letter that was not just sent again is kept (``DeadLetterArchive``) for a person to see.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import ExecutionStartedEvent
from durabletask_azure.core.messages import (
    ActivityTask,
    FailInstance,
    Message,
    ReplaceInstance,
    ToActivities,
    ToPartition,
)
from durabletask_azure.core.outbox import to_instance
from durabletask_azure.core.partitioning import partition_of, stable_id
from durabletask_azure.engine.activities import DELIVERIES_EXHAUSTED, task_failed
from durabletask_azure.engine.counters import Counters
from durabletask_azure.engine.retrying import RETRIED, patiently
from durabletask_azure.errors import PartitionLostError
from durabletask_azure.ports import DeadLetter, HubPorts
from durabletask_azure.settings import Settings

__all__ = ["POISON_MESSAGE", "DeadLetterReader"]

T = TypeVar("T")

POISON_MESSAGE = "PoisonMessage"
"""``error_type`` of an instance that failed because a message to it could not be handled."""
_EXPIRED = "TTLExpiredException"
_EXHAUSTED = "MaxDeliveryCountExceeded"
_AT_ONCE_MAX = 10
_log = logging.getLogger("durabletask_azure.engine.dead_letters")


class DeadLetterReader:
    """Reads both queues' dead letters at the start and ten times per sweep interval."""

    def __init__(
        self, ports: HubPorts, settings: Settings, counters: Counters, *, keep_going: Callable[[], bool]
    ) -> None:
        self._ports = ports
        self._settings = settings
        self._counters = counters
        self._keep_going = keep_going

    async def run(self) -> None:
        """Look, rest, look again, while the worker runs; cancel it to end it at once."""
        while self._keep_going():
            try:
                await self.look()
            except PartitionLostError:  # patience ended with the worker
                return
            except RETRIED as error:
                _log.warning("dead letters cannot be read now: %s", error)
            await self._ports.clock.sleep(self._settings.sweep_s / 10)

    async def look(self) -> int:
        """Deal with every dead letter there is now; return how many there were."""
        orchestrations, activities = self._ports.orchestrations, self._ports.activities
        archive = self._ports.archive
        found = 0
        while letters := await orchestrations.dead_letters(_AT_ONCE_MAX):
            for letter in letters:
                settle = orchestrations.settle_dead_letter if await self._message(letter) else archive.keep
                await self._patiently("settling", lambda letter=letter, settle=settle: settle(letter))
                found += 1
        while letters := await activities.dead_letters(_AT_ONCE_MAX):
            for letter in letters:
                settle = activities.settle_dead_letter if await self._task(letter) else archive.keep
                await self._patiently("settling", lambda letter=letter, settle=settle: settle(letter))
                found += 1
        self._counters.dead_letters += found
        return found

    async def _message(self, letter: DeadLetter) -> bool:
        """Deal with a broker message; return whether all of it was just sent again."""
        if not letter.messages:
            self._unreadable(letter)
            return False
        sent_again = True
        alone = len(letter.messages) == 1 and await self._was_alone(letter)
        for message in letter.messages:
            if letter.reason == _EXPIRED:
                await self._send(message, stable_id(message.id, "expired", letter.enqueued_at.isoformat()))
            elif letter.reason == _EXHAUSTED and message.redriven == 0 and not alone:
                again = msgspec.structs.replace(message, redriven=1)
                await self._send(again, stable_id(message.id, "redriven", 1))
            else:
                sent_again = False
                await self._fail(message, letter)
        return sent_again

    async def _was_alone(self, letter: DeadLetter) -> bool:
        """Return whether the owner was handling this broker message's only message by itself when it died."""
        partition = letter.partition
        if partition is None:
            return False
        stored = await self._patiently("reading a lock row", lambda: self._ports.store.read_lock(partition))
        return any(key == letter.messages[0].id for key, _ in stored.row.attempts)

    async def _send(self, message: Message, new_id: str) -> None:
        """Send a message again, in a broker message of its own."""
        again = ToPartition(
            partition=partition_of(message.instance_id, self._ports.info.partitions),
            message=msgspec.structs.replace(message, id=new_id),
        )
        _log.warning("%s for %r is sent again", type(message.body).__name__, message.instance_id)
        await self._patiently("sending again", lambda: self._ports.orchestrations.send([again]))

    async def _fail(self, message: Message, letter: DeadLetter) -> None:
        if isinstance(message.body, FailInstance):
            _log.error("instance %r cannot even be failed: %s", message.instance_id, letter.description)
            return
        kind = type(message.body).__name__
        text = f"a message ({kind}) could not be handled: {letter.reason}: {letter.description}"
        body = message.body
        failure = FailInstance(
            failure=FailureDetails(message=text, error_type=POISON_MESSAGE),
            start=body if isinstance(body, ExecutionStartedEvent | ReplaceInstance) else None,
        )
        _log.error("instance %r is failed: %s", message.instance_id, text)
        outbound = to_instance(
            message.instance_id,
            failure,
            message_id=stable_id(message.id, "poison"),
            partitions=self._ports.info.partitions,
            execution_id=message.execution_id,
        )
        await self._patiently("failing an instance", lambda: self._ports.orchestrations.send([outbound]))

    async def _task(self, letter: DeadLetter) -> bool:
        """Deal with an activity task; return whether it was just sent again."""
        task = letter.task
        if task is None:
            self._unreadable(letter)
        elif letter.reason == _EXPIRED:
            new_id = stable_id(task.id, "expired", letter.enqueued_at.isoformat())
            again = ToActivities(task=msgspec.structs.replace(task, id=new_id))
            await self._patiently("sending again", lambda: self._ports.activities.send([again]))
            return True
        else:
            await self._fail_task(task, letter)
        return False

    async def _fail_task(self, task: ActivityTask, letter: DeadLetter) -> None:
        text = (
            f"activity {task.name!r} was handed out {task.deliveries + letter.delivery_count} times without a result: "
            f"{letter.reason}: {letter.description}"
        )
        _log.error("activity of %r fails: %s", task.instance_id, text)
        failed = task_failed(
            task,
            FailureDetails(message=text, error_type=DELIVERIES_EXHAUSTED),
            at=self._ports.clock.now(),
            partitions=self._ports.info.partitions,
        )
        await self._patiently("failing an activity", lambda: self._ports.orchestrations.send([failed]))

    def _unreadable(self, letter: DeadLetter) -> None:
        """Say that it was there: it names nobody who could be told."""
        _log.error(
            "dead letter %s cannot be read, and is only kept: %s: %s",
            letter.id,
            letter.reason,
            letter.description,
        )

    async def _patiently(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        return await patiently(
            self._ports.clock, self._settings, f"dead letters: {what}", call, keep_going=self._keep_going
        )

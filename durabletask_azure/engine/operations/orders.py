"""Orders to an instance: raise an event, terminate, suspend, resume.

Each is one message under an id made once, so repeating it is harmless.
"""

from __future__ import annotations

from durabletask_azure.core.history import (
    EventRaisedEvent,
    ExecutionResumedEvent,
    ExecutionSuspendedEvent,
    ExecutionTerminatedEvent,
)
from durabletask_azure.core.payloads import ANY_EXECUTION, Payload, PayloadWriter
from durabletask_azure.engine.operations.sending import Sending
from durabletask_azure.ports import Clock, Intake

__all__ = ["Orders"]


class Orders:
    """Gives orders to instances of one hub."""

    def __init__(self, clock: Clock, intake: Intake | None, sending: Sending) -> None:
        self._clock = clock
        self._intake = intake
        self._sending = sending

    async def raise_event(self, instance_id: str, name: str, text: str | None, event_id: str | None) -> None:
        """Send an event; one of an ``event_id`` seen before is not counted. An unknown instance is no error.

        Raises:
            QueueFullError: there was no room for it in time.
        """
        if self._intake is not None:
            await self._intake.admit_event()
        writer = self._sending.writer()
        body = EventRaisedEvent(
            timestamp=self._clock.now(),
            name=name,
            input=writer.store(
                text, instance_id=instance_id, execution_id=ANY_EXECUTION, what=f"the data of event {name!r}"
            ),
            source_id=event_id if event_id is not None else self._sending.new_id(),
        )
        await self._sending.order(instance_id, body, writer)

    async def terminate(self, instance_id: str, text: str | None, *, recursive: bool) -> None:
        """Order an instance, and with ``recursive`` its sub-orchestrations, to end with the given output."""
        writer = self._sending.writer()
        body = ExecutionTerminatedEvent(
            timestamp=self._clock.now(),
            input=writer.store(
                text, instance_id=instance_id, execution_id=ANY_EXECUTION, what="the output of a termination"
            ),
            recurse=recursive,
            source_id=self._sending.new_id(),
        )
        await self._sending.order(instance_id, body, writer)

    async def suspend(self, instance_id: str, reason: str | None) -> None:
        """Order an instance to pause: what arrives is kept until it is resumed."""
        writer = self._sending.writer()
        body = ExecutionSuspendedEvent(
            timestamp=self._clock.now(),
            input=_reason(instance_id, reason, writer),
            source_id=self._sending.new_id(),
        )
        await self._sending.order(instance_id, body, writer)

    async def resume(self, instance_id: str, reason: str | None) -> None:
        """Order a suspended instance to go on."""
        writer = self._sending.writer()
        body = ExecutionResumedEvent(
            timestamp=self._clock.now(),
            input=_reason(instance_id, reason, writer),
            source_id=self._sending.new_id(),
        )
        await self._sending.order(instance_id, body, writer)


def _reason(instance_id: str, reason: str | None, writer: PayloadWriter) -> Payload:
    return writer.store(reason, instance_id=instance_id, execution_id=ANY_EXECUTION, what="the reason")

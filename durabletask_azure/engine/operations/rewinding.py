"""Taking an instance up again: rewound where it failed, reset to an earlier turn, or restarted from the beginning.

Rewind and reset are orders to the owner, waited for: when the call returns, the instance runs under its new execution
id, and waiting for its end means the new one. A restart is a start with what the instance was started with.
"""

from __future__ import annotations

from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.messages import ResetInstance, RewindInstance
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.core.payloads import ANY_EXECUTION, Payload, PayloadWriter
from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.engine.instances import InstanceReader
from durabletask_azure.engine.operations.sending import CONFIRM_S, Sending
from durabletask_azure.engine.operations.starting import Starting, StartRequest
from durabletask_azure.engine.operations.waiting import Waiting
from durabletask_azure.errors import (
    HubUnavailableError,
    OrchestrationNotFoundError,
    OrchestrationStateError,
)

__all__ = ["Rewinding"]


class Rewinding:
    """Takes instances of one hub up again."""

    def __init__(
        self, sending: Sending, instances: InstanceReader, waiting: Waiting, starting: Starting
    ) -> None:
        self._sending = sending
        self._instances = instances
        self._waiting = waiting
        self._starting = starting

    async def rewind(self, instance_id: str, reason: str | None) -> str:
        """Take a failed instance up again where it failed; return the new execution id.

        Raises:
            OrchestrationNotFoundError: there is no such instance.
            OrchestrationStateError: it is not FAILED, or somebody else took it up meanwhile.
            HubUnavailableError: no worker confirmed it; it may still be done.
        """
        row = await self._row(instance_id)
        if row.status is not RuntimeStatus.FAILED:
            raise OrchestrationStateError(
                f"the orchestration instance {instance_id!r} is {row.status.value}: only a FAILED one can be rewound"
            )
        writer = self._sending.writer()
        order = RewindInstance(
            next_execution_id=self._sending.new_id(), reason=_reason(instance_id, reason, writer)
        )
        await self._order(row, order, writer)
        return order.next_execution_id

    async def reset(
        self,
        instance_id: str,
        *,
        execution_id: str,
        turn: int,
        keep_events: bool,
        reason: str | None,
    ) -> str:
        """Run an execution again from the beginning of a turn on; return the new execution id.

        Raises:
            OrchestrationNotFoundError: there is no such instance.
            OrchestrationStateError: the execution is not the instance's current one any more.
            HubUnavailableError: no worker confirmed it; it may still be done.
        """
        row = await self._row(instance_id)
        if row.execution_id != execution_id:
            raise _overtaken(row)
        writer = self._sending.writer()
        order = ResetInstance(
            next_execution_id=self._sending.new_id(),
            turn=turn,
            keep_events=keep_events,
            reason=_reason(instance_id, reason, writer),
        )
        await self._order(row, order, writer)
        return order.next_execution_id

    async def restart(self, instance_id: str, *, new_instance_id: str) -> str:
        """Start what an ended instance ran, with its input and tags, under an id; return the id.

        Raises:
            OrchestrationNotFoundError: there is no such instance.
            OrchestrationStateError: it has not ended.
            OrchestrationAlreadyExistsError: somebody else started the id meanwhile.
            PayloadMissingError: its input is gone or damaged.
        """
        row = await self._row(instance_id)
        if not row.status.is_terminal:
            raise OrchestrationStateError(
                f"the orchestration instance {instance_id!r} is {row.status.value}:"
                f" only a COMPLETED, FAILED or TERMINATED one can be restarted"
            )
        report = await self._instances.report(row, fetch_payloads=True)
        request = StartRequest(
            name=row.name,
            instance_id=new_instance_id,
            version=row.version,
            input=report.input,
            tags=report.tags,
        )
        return await self._starting.start(request)

    async def _row(self, instance_id: str) -> InstanceRow:
        stored = await self._instances.stored(instance_id)
        if stored is None:
            raise OrchestrationNotFoundError(f"there is no orchestration instance {instance_id!r}")
        return stored.row

    async def _order(
        self, row: InstanceRow, order: RewindInstance | ResetInstance, writer: PayloadWriter
    ) -> None:
        """Give the order and wait until the instance has the new execution."""
        await self._sending.upload(writer.uploads)
        await self._sending.send(
            row.instance_id,
            order,
            message_id=stable_id(order.next_execution_id, "order"),
            execution_id=row.execution_id,
        )

        def moved_on(found: InstanceRow | None) -> bool:
            if found is None:
                raise OrchestrationNotFoundError(f"the orchestration instance {row.instance_id!r} was purged")
            known = (found.execution_id, *(past.execution_id for past in found.past))
            if found.execution_id != row.execution_id and order.next_execution_id not in known:
                raise _overtaken(found)
            return order.next_execution_id in known

        try:
            await self._waiting.until(row.instance_id, moved_on, CONFIRM_S)
        except TimeoutError as error:
            raise HubUnavailableError(
                f"no worker confirmed within {CONFIRM_S:.0f} s that {row.instance_id!r} is taken up again"
            ) from error


def _reason(instance_id: str, reason: str | None, writer: PayloadWriter) -> Payload:
    return writer.store(reason, instance_id=instance_id, execution_id=ANY_EXECUTION, what="the reason")


def _overtaken(row: InstanceRow) -> OrchestrationStateError:
    return OrchestrationStateError(
        f"the orchestration instance {row.instance_id!r} has moved on to execution {row.execution_id}"
        f" and is {row.status.value}"
    )

"""How an instance goes, and how a start is refused: the two answers that have no history event of their own."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import ExecutionStartedEvent, Sender, SubOrchestrationInstanceFailedEvent
from durabletask_azure.core.messages import Inbound, PurgeInstance
from durabletask_azure.core.outbox import to_instance
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.core.payloads import payload_prefix
from durabletask_azure.core.rows import DeleteInstance, DeleteSegments, PastExecution, PutTombstone, Tombstone

if TYPE_CHECKING:
    from durabletask_azure.core.admission import Admission

__all__ = ["purge", "refuse_start"]

_UNSENT_DELAY_S = 1.0


def purge(admission: Admission, item: Inbound, body: PurgeInstance) -> bool:
    """Remove a terminal instance and leave a tombstone; return whether that was done.

    A living instance is left alone. One with unsent messages is purged later: they are derived from its history.
    """
    instance, ctx, turn = admission.instance, admission.ctx, admission.turn
    row = instance.row
    assert row is not None
    if not instance.is_terminal:
        admission.drop(item, f"the instance is {row.status.value}: only ended instances can be purged")
        return False
    if row.commit > ctx.sent:
        admission.put_back(item, delay_s=_UNSENT_DELAY_S)
        return False
    leftovers = (*row.past, PastExecution(row.execution_id, instance.segments, row.commit))
    turn.main.append(DeleteInstance(instance.instance_id, ""))
    turn.main.append(
        PutTombstone(
            Tombstone(
                instance_id=instance.instance_id,
                execution_id=row.execution_id,
                expires_at=item.enqueued_at + timedelta(seconds=ctx.settings.tombstone_s),
                parent=row.parent,
                leftovers=leftovers,
            )
        )
    )
    turn.cleanup.extend(
        DeleteSegments(instance.instance_id, past.execution_id, 0, past.segments)
        for past in leftovers
        if past.segments
    )
    turn.dropped_payloads.append(payload_prefix(ctx.partition, instance.instance_id))
    if body.recursive:
        turn.eventless.extend(
            to_instance(
                child,
                PurgeInstance(recursive=True),
                message_id=stable_id(row.execution_id, "purge", child, ctx.n),
                partitions=ctx.partitions,
                sender=Sender(ctx.partition, ctx.n),
            )
            for child in instance.state.children
        )
    instance.tombstone = turn.main[-1].tombstone if isinstance(turn.main[-1], PutTombstone) else None
    instance.row = None
    return True


def refuse_start(admission: Admission, item: Inbound, started: ExecutionStartedEvent) -> None:
    """Fail the task of a parent whose sub-orchestration's id belongs to another living instance."""
    parent = started.parent
    if parent is None:
        admission.drop(item, "an instance of that id is running")
        return
    failure = FailureDetails(
        message=f"an orchestration instance {started.instance_id!r} is already running",
        error_type="OrchestrationAlreadyExistsError",
    )
    ctx = admission.ctx
    admission.turn.eventless.append(
        to_instance(
            parent.instance_id,
            SubOrchestrationInstanceFailedEvent(
                timestamp=item.enqueued_at, task_scheduled_id=parent.task_id, failure=failure
            ),
            message_id=stable_id(parent.execution_id, "refused", parent.task_id),
            partitions=ctx.partitions,
            execution_id=parent.execution_id,
            sender=Sender(ctx.partition, ctx.n),
        )
    )
    admission.drop(item, "an instance of that id is running")

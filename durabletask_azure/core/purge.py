"""How an ended instance goes: its rows and payloads, and what is left so that late messages resurrect nothing.

Nothing goes before everything the instance had to send is sent: that is derived from its history.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from durabletask_azure.core.history import Sender
from durabletask_azure.core.messages import Inbound, PurgeInstance
from durabletask_azure.core.outbox import to_instance
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.core.payloads import payload_prefix
from durabletask_azure.core.rows import DeleteInstance, DeleteSegments, PastExecution, PutTombstone, Tombstone

if TYPE_CHECKING:
    from durabletask_azure.core.admission import Admission

__all__ = ["is_child_of", "purge"]

_UNSENT_DELAY_S = 1.0
_SEEN_MAX = 200
"""Ids a tombstone keeps: the run's own start is among the oldest."""


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
    if not is_child_of(admission, body.parent_execution_id):
        admission.drop(item, "it is for the child of another execution")
        return False
    if row.commit > ctx.sent:
        admission.put_back(item, delay_s=_UNSENT_DELAY_S)
        return False
    leftovers = (*row.past, PastExecution(row.execution_id, instance.segments, row.commit))
    seen = instance.state.seen_to_carry(admission.now, ctx.settings.seen_ids_s, dict(ctx.confirmed))
    tombstone = Tombstone(
        instance_id=instance.instance_id,
        execution_id=row.execution_id,
        expires_at=admission.now + timedelta(seconds=ctx.settings.tombstone_s),
        parent=row.parent,
        leftovers=leftovers,
        seen=tuple(entry.id for entry in seen[:_SEEN_MAX]),
    )
    turn.main += (DeleteInstance(instance.instance_id, ""), PutTombstone(tombstone))
    turn.cleanup += tuple(
        DeleteSegments(instance.instance_id, past.execution_id, 0, past.segments)
        for past in leftovers
        if past.segments
    )
    turn.dropped_payloads += (payload_prefix(ctx.partition, instance.instance_id),)
    if body.recursive:
        turn.eventless += tuple(
            to_instance(
                child,
                PurgeInstance(recursive=True, parent_execution_id=row.execution_id),
                message_id=stable_id(row.execution_id, "purge", child, ctx.n),
                partitions=ctx.partitions,
                sender=Sender(ctx.partition, ctx.n),
            )
            for child in instance.state.children
        )
    instance.tombstone = tombstone
    instance.row = None
    return True


def is_child_of(admission: Admission, parent_execution_id: str | None) -> bool:
    """Return whether an order that cascades from an execution (or from none) is meant for this instance.

    An execution knows only the ids it gave its children; another instance may have had, or may have got, such an id.
    """
    if parent_execution_id is None:
        return True
    row = admission.instance.row
    return row is not None and row.parent is not None and row.parent.execution_id == parent_execution_id

"""Which rows a query of the simulated table returns."""

from __future__ import annotations

from datetime import datetime

from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.ports import InstanceFilter

__all__ = ["matches"]


def matches(row: InstanceRow, where: InstanceFilter) -> bool:
    """Tell whether a filter lets an instance through."""
    return (
        (not where.ids or row.instance_id in where.ids)
        and (not where.versions or row.version in where.versions)
        and (where.id_prefix is None or row.instance_id.startswith(where.id_prefix))
        and (not where.statuses or row.status in where.statuses)
        and (not where.names or row.name in where.names)
        and _within(row.created_at, where.created_from, where.created_to)
        and _within(row.updated_at, where.updated_from, where.updated_to)
        and _within(row.completed_at, where.completed_from, where.completed_to)
        and (where.due_before is None or (row.due_at is not None and row.due_at <= where.due_before))
        and (where.with_reason is None or (row.reason is not None) == where.with_reason)
    )


def _within(value: datetime | None, least: datetime | None, most: datetime | None) -> bool:
    if least is None and most is None:
        return True
    if value is None:
        return False
    return (least is None or least <= value) and (most is None or value <= most)

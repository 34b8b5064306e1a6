"""Which past executions of an instance are kept, and what becomes of the rows and values of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from durabletask_azure.core.history import payload_refs
from durabletask_azure.core.payloads import payload_prefix
from durabletask_azure.core.rows import DeleteSegments, PastExecution

if TYPE_CHECKING:
    from durabletask_azure.core.turn import Turn, TurnContext

__all__ = ["trim_past"]

_TRIMMED_ROWS_MAX = 8
"""Segment rows of past executions deleted by one turn, beside its own rows."""


def trim_past(turn: Turn, ctx: TurnContext) -> None:
    """Let go of the oldest past executions, but of none that has something unsent.

    Their segments go with the row that stops naming them, since a later deletion that never comes leaves rows nobody
    knows of; of a long one some go now and the rest with later turns.
    """
    instance = turn.instance
    row, started = instance.row, instance.state.started
    assert row is not None
    surplus = len(row.past) - ctx.settings.executions_kept
    # Tags, and events nobody waited for, go on from execution to execution under the name they were first stored by.
    live = [ref.name for ref in payload_refs([started] if started is not None else [])]
    kept: list[PastExecution] = []
    gone: list[PastExecution] = []
    room = _TRIMMED_ROWS_MAX
    written = {write.execution_id for write in turn.segments}
    for past in row.past:
        if surplus == 0 or past.commit > ctx.sent or past.execution_id in written:
            kept.append(past)
            continue
        surplus -= 1
        count = min(past.segments, room)
        if count:
            room -= count
            first = past.segments - count
            turn.main += (DeleteSegments(instance.instance_id, past.execution_id, first, count),)
        if count < past.segments:
            kept.append(msgspec.structs.replace(past, segments=past.segments - count, readable=False))
        else:
            gone.append(past)
    # A history that was copied reads the values of those it was copied from.
    sources = started.sources if started is not None else ()
    read = {past.execution_id for past in kept}.union(sources, *(past.sources for past in kept))
    for execution_id in dict.fromkeys(name for past in gone for name in (past.execution_id, *past.sources)):
        prefix = f"{payload_prefix(ctx.partition, instance.instance_id)}{execution_id}/"
        if execution_id not in read and not any(name.startswith(prefix) for name in live):
            turn.dropped_payloads += (prefix,)
    instance.row = msgspec.structs.replace(row, past=tuple(kept))

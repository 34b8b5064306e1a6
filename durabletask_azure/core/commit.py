"""The commit plan: what turns came to, as ordered transactions and sends (data; the engine executes it).

A commit number may need several transactions. Turns are put together into groups; each group's instance rows are one
transaction, which makes the group visible as a whole. Segment rows that do not fit beside them are staged before:
nothing refers to them until the instance row does. Deletions of rows nothing refers to any more come after. All groups
of a number share it; ``sent`` is raised to it only when the sends of the last one are confirmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from durabletask_azure.core.messages import Outbound
from durabletask_azure.core.rows import (
    DeleteSegments,
    OutboxRow,
    PutInstance,
    PutOutbox,
    RowWrite,
    write_rows,
    write_size,
)
from durabletask_azure.core.turn import Turn

__all__ = ["Group", "plan_groups", "transactions"]

_OUTBOX_ROW_BYTES_MAX = 200_000
_encoder = msgspec.json.Encoder()


@dataclass(slots=True)
class Group:
    """Turns committed by one transaction, and what goes before and after it."""

    n: int
    turns: list[Turn] = field(default_factory=list[Turn])
    staged: list[list[RowWrite]] = field(default_factory=list[list[RowWrite]])
    """Transactions to commit first."""
    main: list[RowWrite] = field(default_factory=list[RowWrite])
    """Rows that go with the instance rows, in the same transaction: staged ones that fit, and outbox rows."""
    cleanup: list[list[RowWrite]] = field(default_factory=list[list[RowWrite]])
    """Transactions for afterwards."""
    outbox: list[OutboxRow] = field(default_factory=list[OutboxRow])
    _sends: list[Outbound] | None = None

    def writes(self) -> list[RowWrite]:
        """Return the transaction's writes, with the ETags the instances have by now."""
        writes = list(self.main)
        for turn in self.turns:
            if turn.row is not None and not turn.main:  # the usual turn
                writes.append(PutInstance(turn.row, turn.instance.etag))
            else:
                writes += turn.writes()
        return writes

    @property
    def sends(self) -> list[Outbound]:
        """The messages of this group, in order: those of events, then those without."""
        if self._sends is None:
            self._sends = []
            for turn in self.turns:
                self._sends += turn.outbound
                if turn.eventless:
                    self._sends += turn.eventless
        return self._sends


def plan_groups(
    turns: Sequence[Turn],
    n: int,
    *,
    rows_max: int,
    bytes_max: int | None,
    instances_max: int,
    keep_outbox: bool,
    first: int = 0,
) -> list[Group]:
    """Return the groups that commit ``turns`` under number ``n``; ``first`` is how many groups that number had before.

    ``rows_max`` and ``bytes_max`` (``None``: any number) bound one transaction, the lock row left out;
    ``instances_max`` bounds the turns of a group. With ``keep_outbox`` messages without an event of their own are put
    into outbox rows.
    """
    groups: list[Group] = []
    group = Group(n)
    rows = size = 0
    for turn in turns:
        if keep_outbox and turn.eventless:
            outbox = _outbox_rows(turn, n, first + len(groups), len(group.outbox))
            companions: list[RowWrite] = [PutOutbox(row) for row in outbox]
        else:
            outbox, companions = [], []
        need_rows, need_bytes = _needs((*turn.writes(), *companions), bytes_max)
        full = (
            rows + need_rows > rows_max
            or (bytes_max is not None and size + need_bytes > bytes_max)
            or len(group.turns) >= instances_max
        )
        if group.turns and full:
            groups.append(group)
            group = Group(n)
            rows = size = 0
            if outbox:
                outbox = [
                    msgspec.structs.replace(row, index=_index(first + len(groups), i))
                    for i, row in enumerate(outbox)
                ]
                companions = [PutOutbox(row) for row in outbox]
        group.turns.append(turn)
        if outbox:
            group.outbox.extend(outbox)
            group.main.extend(companions)
        rows += need_rows
        size += need_bytes
    if group.turns:
        groups.append(group)
    for each in groups:
        _add_segments(each, rows_max=rows_max, bytes_max=bytes_max)
    return groups


def transactions(writes: Sequence[RowWrite], *, rows_max: int, bytes_max: int | None) -> list[list[RowWrite]]:
    """Return ``writes`` cut into transactions, in order; a long deletion is cut as well."""
    parts: list[list[RowWrite]] = []
    part: list[RowWrite] = []
    rows = size = 0
    for write in (piece for whole in writes for piece in _pieces(whole, rows_max)):
        need_rows, need_bytes = _needs((write,), bytes_max)
        if part and (
            rows + need_rows > rows_max or (bytes_max is not None and size + need_bytes > bytes_max)
        ):
            parts.append(part)
            part, rows, size = [], 0, 0
        part.append(write)
        rows += need_rows
        size += need_bytes
    if part:
        parts.append(part)
    return parts


def _needs(writes: Sequence[RowWrite], bytes_max: int | None) -> tuple[int, int]:
    """Return the rows and, where bytes count at all, the bytes that writes add to a transaction."""
    rows = sum(map(write_rows, writes))
    return rows, 0 if bytes_max is None else sum(map(write_size, writes))


def _pieces(write: RowWrite, rows_max: int) -> list[RowWrite]:
    if not isinstance(write, DeleteSegments) or write.count <= rows_max:
        return [write]
    return [
        msgspec.structs.replace(write, first=first, count=min(rows_max, write.first + write.count - first))
        for first in range(write.first, write.first + write.count, rows_max)
    ]


def _add_segments(group: Group, *, rows_max: int, bytes_max: int | None) -> None:
    segments = [write for turn in group.turns for write in turn.segments]
    cleanup = [write for turn in group.turns for write in turn.cleanup]
    group.cleanup = transactions(cleanup, rows_max=rows_max, bytes_max=bytes_max)
    if not segments:
        return
    everything = [*segments, *group.main, *(write for turn in group.turns for write in turn.writes())]
    if len(transactions(everything, rows_max=rows_max, bytes_max=bytes_max)) == 1:
        group.main = [*segments, *group.main]
    else:
        group.staged = transactions(segments, rows_max=rows_max, bytes_max=bytes_max)


def _outbox_rows(turn: Turn, n: int, group: int, first: int) -> list[OutboxRow]:
    rows: list[OutboxRow] = []
    batch: list[Outbound] = []
    size = 0
    for out in turn.eventless:
        need = len(_encoder.encode(out))
        if batch and size + need > _OUTBOX_ROW_BYTES_MAX:
            rows.append(OutboxRow(n=n, index=_index(group, first + len(rows)), messages=tuple(batch)))
            batch, size = [], 0
        batch.append(out)
        size += need
    rows.append(OutboxRow(n=n, index=_index(group, first + len(rows)), messages=tuple(batch)))
    return rows


def _index(group: int, position: int) -> int:
    return group * 10_000 + position

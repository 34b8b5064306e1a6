"""The rows of a hub's table, typed, and the writes a commit is made of (DESIGN 3 and 5).

All rows of a partition share one PartitionKey. ``row_key`` gives the key of each; adapters escape ids on their side.
"""

from __future__ import annotations

from typing import Annotated, assert_never

import msgspec

from durabletask_azure.core.history import Failure, Parent, RuntimeStatus, SeenId, Tags
from durabletask_azure.core.messages import Message, Outbound
from durabletask_azure.core.payloads import Payload
from durabletask_azure.core.stored_form import Moment

__all__ = [
    "DeleteInstance",
    "DeleteOutbox",
    "DeleteSegments",
    "DeleteTombstone",
    "InstanceRow",
    "LockRow",
    "OutboxRow",
    "PastExecution",
    "PutInstance",
    "PutOutbox",
    "PutSegment",
    "PutTombstone",
    "RowWrite",
    "Tombstone",
    "row_key",
    "write_rows",
    "write_size",
]


_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class LockRow(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The fencing row of a partition: replaced, with If-Match, by every transaction on the partition.

    ``owner`` is one identity per tenure and ``epoch`` grows with each. ``n`` is the number of the last whole commit,
    ``commit_id`` the id of the last transaction (staged parts have their own). ``sent``: all sends of commits up to it
    are confirmed. ``unsent``: ids of the instances with later ones. ``unsettled``: ids of broker messages committed but
    not known completed. ``attempts``: what was handled alone (careful mode), messages by their ids, and how often that
    was begun. ``vain``: tenures in a row, this one included, that have committed no message's turn: one that ends
    its process every time shows in it, since a broker counts no delivery when the session of a dead process is freed.
    """

    owner: str = ""
    epoch: int = 0
    n: int = 0
    commit_id: str = ""
    sent: int = 0
    unsent: tuple[str, ...] = ()
    unsettled: tuple[str, ...] = ()
    attempts: tuple[tuple[str, int], ...] = ()
    vain: int = 0


class PastExecution(msgspec.Struct, frozen=True, gc=False):
    """An earlier execution of an instance, whose history is kept in segment rows.

    ``commit`` is the last one that wrote events of it: it may go once ``sent`` covers that. ``readable`` is false when
    the tail is gone (a client replaced the instance): then its segments only wait to be deleted. ``sources`` are the
    executions that its own history was copied from.
    """

    execution_id: str
    segments: _Count
    commit: int
    readable: bool = True
    sources: tuple[str, ...] = ()


class InstanceRow(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """State of an instance and the tail of its history: equals the fold of its history (invariant V).

    ``tail`` holds the newest events in stored form; ``segments`` rows hold the older ones. ``due_at`` is the earliest
    moment the owner may have to act by itself: a pending start, or the first open timer. ``kept`` are messages that
    wait because the instance cannot run yet (before its due time, or ``reason`` says why). ``ready``: the history holds
    the start of a new execution (continue-as-new) whose code has not run yet. ``seen``: ids that a pending instance has
    to remember from the run it replaces.
    """

    instance_id: str
    execution_id: str
    name: str
    status: RuntimeStatus
    created_at: Moment
    updated_at: Moment
    version: str | None = None
    completed_at: Moment | None = None
    scheduled_start: Moment | None = None
    due_at: Moment | None = None
    custom_status: Payload = None
    input: Payload = None
    output: Payload = None
    failure: Failure = None
    tags: Tags = None
    parent: Parent | None = None
    generation: int = 0
    reason: str | None = None
    commit: int = 0
    tail: bytes = b""
    segments: _Count = 0
    events: int = 0
    past: tuple[PastExecution, ...] = ()
    kept: tuple[Message, ...] = ()
    ready: bool = False
    seen: tuple[SeenId, ...] = ()
    parent_trace_context: str | None = None


class Tombstone(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What is left of a purged instance until ``expires_at``: late messages to it are dropped.

    ``leftovers`` are the executions whose segment rows are deleted after the purge's own transaction; whoever removes
    the tombstone deletes them once more, in case a crash came between. ``seen`` are ids the instance still remembered,
    the oldest first: a late copy of the request that started its run is one of them.
    """

    instance_id: str
    execution_id: str
    expires_at: Moment
    parent: Parent | None = None
    leftovers: tuple[PastExecution, ...] = ()
    seen: tuple[str, ...] = ()


class OutboxRow(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Messages of commit ``n`` without a history event of their own, or unsent instance ids moved out of the lock."""

    n: int
    index: int
    messages: tuple[Outbound, ...] = ()
    unsent: tuple[str, ...] = ()


class PutInstance(msgspec.Struct, frozen=True, gc=False):
    """Insert (``if_match`` is ``None``) or replace an instance row."""

    row: InstanceRow
    if_match: str | None = None


class DeleteInstance(msgspec.Struct, frozen=True, gc=False):
    """Delete an instance row."""

    instance_id: str
    if_match: str


class PutSegment(msgspec.Struct, frozen=True, gc=False):
    """Write segment ``index`` of an execution's history; overwriting one nobody refers to is harmless."""

    instance_id: str
    execution_id: str
    index: int
    events: bytes


class DeleteSegments(msgspec.Struct, frozen=True, gc=False):
    """Delete segments ``first`` to ``first + count - 1`` of an execution; missing ones are no error."""

    instance_id: str
    execution_id: str
    first: int
    count: int


class PutOutbox(msgspec.Struct, frozen=True, gc=False):
    """Insert an outbox row."""

    row: OutboxRow


class DeleteOutbox(msgspec.Struct, frozen=True, gc=False):
    """Delete an outbox row; a missing one is no error."""

    n: int
    index: int


class PutTombstone(msgspec.Struct, frozen=True, gc=False):
    """Write a tombstone."""

    tombstone: Tombstone


class DeleteTombstone(msgspec.Struct, frozen=True, gc=False):
    """Delete a tombstone; a missing one is no error."""

    instance_id: str


RowWrite = (
    PutInstance
    | DeleteInstance
    | PutSegment
    | DeleteSegments
    | PutOutbox
    | DeleteOutbox
    | PutTombstone
    | DeleteTombstone
)


def row_key(write: RowWrite) -> str:
    """Return the (unescaped) key of the first row a write touches: what errors and receipts name."""
    match write:
        case PutInstance():
            return f"i!{write.row.instance_id}"
        case DeleteInstance():
            return f"i!{write.instance_id}"
        case PutSegment():
            return f"h!{write.instance_id}!{write.execution_id}!{write.index}"
        case DeleteSegments():
            return f"h!{write.instance_id}!{write.execution_id}!{write.first}"
        case PutOutbox():
            return f"o!{write.row.n}!{write.row.index}"
        case DeleteOutbox():
            return f"o!{write.n}!{write.index}"
        case PutTombstone():
            return f"t!{write.tombstone.instance_id}"
        case DeleteTombstone():
            return f"t!{write.instance_id}"
        case _ as never:
            assert_never(never)


def write_rows(write: RowWrite) -> int:
    """Return how many rows of an entity group transaction a write takes."""
    return write.count if isinstance(write, DeleteSegments) else 1


_encoder = msgspec.json.Encoder()
_ROW_OVERHEAD = 1_500


def write_size(write: RowWrite) -> int:
    """Return an upper estimate, in bytes, of what a write adds to an entity group transaction.

    Tables store text as UTF-16 and binary as it is; JSON in UTF-8 doubled is above both.
    """
    match write:
        case PutInstance():
            row = write.row
            rest = msgspec.structs.replace(row, tail=b"")
            return len(row.tail) * 2 + len(_encoder.encode(rest)) * 2 + _ROW_OVERHEAD
        case PutSegment():
            return len(write.events) * 2 + _ROW_OVERHEAD
        case PutOutbox():
            return len(_encoder.encode(write.row)) * 2 + _ROW_OVERHEAD
        case PutTombstone():
            return len(_encoder.encode(write.tombstone)) * 2 + _ROW_OVERHEAD
        case _:
            return _ROW_OVERHEAD

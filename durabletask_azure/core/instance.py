"""One instance as its owner holds it: the row, the fold of its history, and, while warm, its live execution.

``Instance`` is what the cache keeps. It is changed only by ``turn.py`` and is one commit ahead of storage while that
commit is under way: if the commit fails, the object must be dropped (live coroutines cannot roll back).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from durabletask_azure.core.history import (
    ExecutionCompletedEvent,
    ExecutionStartedEvent,
    HistoryEvent,
    OrchestratorStartedEvent,
    RuntimeStatus,
    TaskCompletedEvent,
    TaskScheduledEvent,
    decode_events,
    encode_events,
    replay_refs,
)
from durabletask_azure.core.messages import (
    ContinuedChild,
    FailInstance,
    Message,
    PurgeInstance,
    ReplaceInstance,
    ResetInstance,
    RewindInstance,
)
from durabletask_azure.core.outbox import Origin
from durabletask_azure.core.payloads import BlobRef
from durabletask_azure.core.replay import Execution
from durabletask_azure.core.rows import InstanceRow, PastExecution, PutSegment, Tombstone
from durabletask_azure.core.state import ExecutionState, fold

__all__ = ["Instance", "needs_history", "pending_row"]


class Instance:
    """An instance of a partition, loaded: absent, pending, living or terminal."""

    __slots__ = (
        "closed",
        "cold",
        "etag",
        "execution",
        "instance_id",
        "origins",
        "pins",
        "row",
        "segments",
        "state",
        "tail",
        "tail_bytes",
        "tombstone",
    )

    def __init__(self, instance_id: str, tombstone: Tombstone | None = None) -> None:
        self.instance_id = instance_id
        self.tombstone = tombstone
        self.row: InstanceRow | None = None
        """The row as last planned; for its ``tail`` see ``tail``."""
        self.etag: str | None = None
        """The row's ETag, kept by the engine; ``None`` while there is no row."""
        self.pins = 0
        """How many batches under way it is part of, kept by the engine's cache."""
        self.state = ExecutionState()
        self.tail: list[bytes] = []
        """The newest part of the history in stored form, in pieces of whole lines."""
        self.tail_bytes = 0
        self.segments = 0
        self.execution: Execution | None = None
        self.cold: list[HistoryEvent] | None = None
        """History that the execution has still to replay before it can run; ``None`` while warm or finished."""
        self.closed: list[HistoryEvent] = []
        """History of an execution that had ended when it was loaded."""
        self.origins: tuple[ExecutionStartedEvent, Origin] | None = None
        """Who sends this execution's messages, with the event that tells it."""

    @classmethod
    def load(
        cls, row: InstanceRow, etag: str, segments: bytes, tombstone: Tombstone | None = None
    ) -> Instance:
        """Return the instance of a row and its full segments, joined.

        Raises:
            msgspec.DecodeError: the history cannot be read.
        """
        instance = cls(row.instance_id, tombstone)
        events = decode_events(segments) if segments else []
        events.extend(decode_events(row.tail))
        instance.row = msgspec.structs.replace(row, tail=b"")
        instance.etag = etag
        instance.state = fold(events)
        instance.segments = row.segments
        if row.tail:
            instance.tail = [row.tail]
            instance.tail_bytes = len(row.tail)
        if row.status.is_terminal:
            instance.closed = events
        else:
            instance.cold = events
        return instance

    @classmethod
    def ended(cls, row: InstanceRow, etag: str) -> Instance:
        """Return the instance of a terminal row without its history, for messages that it takes no more."""
        instance = cls(row.instance_id)
        instance.row = msgspec.structs.replace(row, tail=b"")
        instance.etag = etag
        instance.segments = row.segments
        return instance

    @property
    def is_terminal(self) -> bool:
        """Whether there is a row and it is terminal."""
        return self.row is not None and self.row.status.is_terminal

    @property
    def is_cacheable(self) -> bool:
        """Whether the cache may serve this object: absent and terminal rows may be changed by clients at any time,
        and so may a pending one that has not been started."""
        return self.state.started is not None and self.row is not None and not self.row.status.is_terminal

    @property
    def is_ready(self) -> bool:
        """Whether a new execution waits for its first turn, without needing any message."""
        return self.row is not None and self.row.ready

    def history_refs(self) -> Sequence[BlobRef]:
        """Return the spilled values that a replay of the cold history needs."""
        return replay_refs(self.cold) if self.cold else ()

    def origin(self, partition: int, partitions: int) -> Origin:
        """Return who sends this execution's messages."""
        started = self.state.started
        assert started is not None
        if self.origins is not None and self.origins[0] is started:
            return self.origins[1]
        origin = Origin(
            instance_id=self.instance_id,
            execution_id=started.execution_id,
            name=started.name,
            parent=started.parent,
            partition=partition,
            partitions=partitions,
            parent_trace_context=started.parent_trace_context,
            sources=started.sources,
        )
        self.origins = (started, origin)
        return origin

    def append_step(
        self,
        opened: OrchestratorStartedEvent,
        completed: TaskCompletedEvent,
        scheduled: Sequence[TaskScheduledEvent],
        ended: ExecutionCompletedEvent | None,
    ) -> None:
        """Add the events of the usual turn; as :meth:`append`."""
        ends = () if ended is None else (ended,)
        lines = encode_events((opened, completed, *scheduled, *ends))
        self.tail.append(lines)
        self.tail_bytes += len(lines)
        self.state.apply_step(opened, completed, scheduled)
        if ended is not None:
            self.state.apply(ended)

    def append(self, events: Sequence[HistoryEvent]) -> None:
        """Add events to the history: to the fold and to the tail that the next row carries.

        Raises:
            ValueError, TypeError: one cannot be stored; nothing was added.
        """
        lines = encode_events(events)
        self.tail.append(lines)
        self.tail_bytes += len(lines)
        apply = self.state.apply
        for event in events:
            apply(event)

    def flush_tail(self, segment_bytes_max: int) -> list[PutSegment]:
        """Move the whole tail to segment rows of at most ``segment_bytes_max`` bytes each; return the writes."""
        started = self.state.started
        assert started is not None
        writes: list[PutSegment] = []
        lines = self.joined_tail()
        first = 0
        while first < len(lines):
            last = first + segment_bytes_max
            if last < len(lines):
                # One event may be larger than a row can be (a start that carries thousands of ids): it goes on in the
                # next. All others stay whole.
                last = lines.rfind(b"\n", first, last) + 1 or last
            writes.append(
                PutSegment(self.instance_id, started.execution_id, self.segments, lines[first:last])
            )
            self.segments += 1
            first = last
        self.tail = []
        self.tail_bytes = 0
        return writes

    def restart_history(self) -> None:
        """Begin an empty history for another execution of this instance."""
        self.drop_execution()
        self.state = ExecutionState()
        self.tail = []
        self.tail_bytes = 0
        self.segments = 0
        self.cold = []
        self.closed = []

    def drop_execution(self) -> None:
        """Close the live execution, if any."""
        if self.execution is not None:
            self.execution.close()
            self.execution = None

    def joined_tail(self) -> bytes:
        """Return the tail as the row carries it."""
        if len(self.tail) > 1:
            self.tail = [b"".join(self.tail)]
        return self.tail[0] if self.tail else b""

    def current_row(self) -> InstanceRow:
        """Return the row to store: the last planned one with the tail in it."""
        assert self.row is not None
        return msgspec.structs.replace(self.row, tail=self.joined_tail())


def needs_history(message: Message) -> bool:
    """Whether a message may do something to an instance that has ended; all others are dropped by its row alone."""
    body = message.body
    return isinstance(
        body.start if isinstance(body, FailInstance) else body,
        (
            ExecutionStartedEvent,
            ReplaceInstance,
            PurgeInstance,
            RewindInstance,
            ResetInstance,
            ContinuedChild,
        ),
    )


def pending_row(
    started: ExecutionStartedEvent,
    *,
    created_at: datetime,
    past: tuple[PastExecution, ...] = (),
    kept: tuple[Message, ...] = (),
) -> InstanceRow:
    """Return the PENDING row of an instance that a client or a parent starts."""
    return InstanceRow(
        instance_id=started.instance_id,
        execution_id=started.execution_id,
        name=started.name,
        status=RuntimeStatus.PENDING,
        created_at=created_at,
        updated_at=created_at,
        version=started.version,
        scheduled_start=started.scheduled_start,
        due_at=started.scheduled_start or created_at,
        input=started.input,
        tags=started.tags,
        parent=started.parent,
        past=past,
        kept=kept,
        parent_trace_context=started.parent_trace_context,
    )

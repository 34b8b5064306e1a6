"""The story the table's commit log tells: every execution's history as it grew, and where the log itself is wrong.

It is rebuilt from the accepted transactions alone, decoded with the stored form of events and nothing else of the
product. While rebuilding it checks the chain of commits (H), that histories only grow (H), and that every instance row
equals the fold of its history at that moment (V).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from durabletask_azure.core.history import (
    ContinuedEvent,
    EventSentEvent,
    ExecutionCompletedEvent,
    ExecutionResumedEvent,
    ExecutionRewoundEvent,
    ExecutionStartedEvent,
    ExecutionSuspendedEvent,
    HistoryEvent,
    RuntimeStatus,
    decode_events,
)
from durabletask_azure.core.rows import DeleteSegments, InstanceRow, LockRow, PutInstance, PutSegment
from tests.simulation.fakes.table import ClientWrite, CommitRecord

__all__ = ["Chronicle", "Entry", "Story", "rebuild"]


@dataclass(frozen=True, slots=True)
class Entry:
    """An event, and the true time of the transaction that made it visible."""

    event: HistoryEvent
    at: datetime


@dataclass(slots=True)
class Story:
    """One execution: its history in stored form, and event by event."""

    instance_id: str
    execution_id: str
    stored: bytes = b""
    entries: list[Entry] = field(default_factory=list[Entry])
    status: RuntimeStatus = RuntimeStatus.PENDING
    completed: ExecutionCompletedEvent | None = None
    started: ExecutionStartedEvent | None = None

    @property
    def own(self) -> Sequence[Entry]:
        """The entries that are not a copy of another execution's: what comes after its rewind or reset."""
        if self.started is None or not self.started.sources:
            return self.entries
        copied_from = self.started.sources[-1]
        for position, entry in enumerate(self.entries):
            event = entry.event
            if isinstance(event, ExecutionRewoundEvent) and event.former_execution_id == copied_from:
                return self.entries[position + 1 :]
        return ()


@dataclass(slots=True)
class Chronicle:
    """All executions in order of their first commit, all client rows, the last row of each instance, and the faults."""

    stories: dict[tuple[str, str], Story] = field(default_factory=dict[tuple[str, str], Story])
    client_rows: list[ClientWrite] = field(default_factory=list[ClientWrite])
    last_rows: dict[str, InstanceRow] = field(default_factory=dict[str, InstanceRow])
    endings: dict[str, dict[str, InstanceRow]] = field(default_factory=dict[str, dict[str, InstanceRow]])
    """Terminal rows by instance and execution: one per life of an id."""
    faults: list[str] = field(default_factory=list[str])

    def of_instance(self, instance_id: str) -> Sequence[Story]:
        """Return an instance's executions, oldest first."""
        return [story for story in self.stories.values() if story.instance_id == instance_id]


def rebuild(log: Sequence[CommitRecord | ClientWrite]) -> Chronicle:
    """Return what a table's log amounts to."""
    return _Rebuild().run(log)


class _Rebuild:
    def __init__(self) -> None:
        self._chronicle = Chronicle()
        self._locks: dict[int, LockRow] = {}
        self._commit_ids: set[str] = set()
        self._numbers: dict[tuple[int, int], int] = {}
        self._segments: dict[tuple[str, str], dict[int, bytes]] = {}

    def run(self, log: Sequence[CommitRecord | ClientWrite]) -> Chronicle:
        for record in log:
            if isinstance(record, ClientWrite):
                self._chronicle.client_rows.append(record)
                self._chronicle.last_rows[record.row.instance_id] = record.row
                continue
            self._chain(record)
            for write in record.writes:
                match write:
                    case PutSegment():
                        key = (write.instance_id, write.execution_id)
                        self._segments.setdefault(key, {})[write.index] = write.events
                    case DeleteSegments():
                        key = (write.instance_id, write.execution_id)
                        for index in range(write.first, write.first + write.count):
                            self._segments.get(key, {}).pop(index, None)
                    case _:
                        pass
            for write in record.writes:
                if isinstance(write, PutInstance):
                    self._row(record, write.row)
        return self._chronicle

    def _fault(self, text: str) -> None:
        self._chronicle.faults.append(text)

    def _chain(self, record: CommitRecord) -> None:
        lock, before = record.lock, self._locks.get(record.partition, LockRow())
        where = f"partition {record.partition}, commit {lock.n} by {record.gate}"
        if lock.epoch < before.epoch or lock.epoch > before.epoch + 1:
            self._fault(f"H: {where}: epoch {lock.epoch} after {before.epoch}")
        if lock.epoch == before.epoch and lock.owner != before.owner:
            self._fault(f"H: {where}: owner {lock.owner} in the epoch of {before.owner}")
        if lock.n not in (before.n, before.n + 1):
            self._fault(f"H: {where}: number {lock.n} after {before.n}")
        if any(isinstance(write, PutInstance) for write in record.writes):
            first = self._numbers.setdefault((record.partition, lock.n), lock.epoch)
            if first != lock.epoch:
                self._fault(f"H: {where}: the number was used in epoch {first}, and now in {lock.epoch}")
        if not before.sent <= lock.sent <= lock.n:
            self._fault(f"H: {where}: sent {lock.sent} after {before.sent}")
        if lock.commit_id in self._commit_ids:
            self._fault(f"H: {where}: commit id {lock.commit_id} was used before")
        self._commit_ids.add(lock.commit_id)
        self._locks[record.partition] = lock

    def _row(self, record: CommitRecord, row: InstanceRow) -> None:
        self._chronicle.last_rows[row.instance_id] = row
        if row.status.is_terminal:
            self._chronicle.endings.setdefault(row.instance_id, {})[row.execution_id] = row
        for past in row.past:
            # The tail of one that a client replaced went with its row: only its segments are still there.
            if past.readable:
                self._grow(record, row.instance_id, past.execution_id, past.segments, b"")
        if row.segments or row.tail:
            story = self._grow(record, row.instance_id, row.execution_id, row.segments, row.tail)
            if story is not None:
                self._compare(story, row)

    def _grow(
        self, record: CommitRecord, instance_id: str, execution_id: str, count: int, tail: bytes
    ) -> Story | None:
        segments = self._segments.get((instance_id, execution_id), {})
        parts = [segments.get(index) for index in range(count)]
        story = self._chronicle.stories.setdefault(
            (instance_id, execution_id), Story(instance_id, execution_id)
        )
        if None in parts:
            self._fault(f"H: {instance_id}: a segment of {execution_id} is missing")
            return None
        stored = b"".join(part for part in parts if part is not None) + tail
        if not stored.startswith(story.stored):
            self._fault(f"H: {instance_id}: the history of {execution_id} was rewritten")
            return None
        for event in decode_events(stored[len(story.stored) :]):
            story.entries.append(Entry(event, record.at))
            _fold(story, event)
            if event.commit not in (record.lock.n, record.lock.n + 1) and not _is_sent_before(story, event):
                self._fault(f"H: {instance_id}: event of commit {event.commit} in commit {record.lock.n}")
        story.stored = stored
        return story

    def _compare(self, story: Story, row: InstanceRow) -> None:
        """Hold the row against the fold of its history (V)."""
        where = f"V: {row.instance_id}"
        if row.events != len(story.entries):
            self._fault(f"{where}: {row.events} events in the row, {len(story.entries)} in the history")
        if story.status != row.status and row.status is not RuntimeStatus.PENDING:
            self._fault(f"{where}: {row.status} in the row, {story.status} in the history")
        if story.started is None or story.started.execution_id != row.execution_id:
            self._fault(f"{where}: the history is of another execution")
        elif story.started.name != row.name or story.started.generation != row.generation:
            self._fault(f"{where}: the row's name or generation is not the history's")
        done = story.completed
        if done is not None and (done.result, done.failure) != (row.output, row.failure):
            self._fault(f"{where}: the row's outcome is not the history's")


def _is_sent_before(story: Story, event: HistoryEvent) -> bool:
    """Whether the execution that this one was copied from sends an event."""
    is_copy = story.started is not None and bool(story.started.sources)
    return is_copy and isinstance(event, EventSentEvent) and event.commit == 0


def _fold(story: Story, event: HistoryEvent) -> None:
    match event:
        case ExecutionStartedEvent():
            story.started = event
            story.status = RuntimeStatus.RUNNING
        case ExecutionSuspendedEvent():
            story.status = RuntimeStatus.SUSPENDED
        case ExecutionResumedEvent():
            story.status = RuntimeStatus.RUNNING
        case ExecutionCompletedEvent():
            story.completed = event
            story.status = event.status
        case ContinuedEvent():
            story.status = RuntimeStatus.CONTINUED_AS_NEW
        case _:
            pass

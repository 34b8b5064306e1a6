"""What a partition owner does besides its turns: what a former owner left, what is overdue, what is suspicious."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import msgspec

from durabletask_azure.core.commit import transactions
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import HistoryEvent, decode_events
from durabletask_azure.core.instance import Instance
from durabletask_azure.core.messages import Outbound
from durabletask_azure.core.outbox import Origin, unsent_messages
from durabletask_azure.core.rows import DeleteSegments, DeleteTombstone, LockRow, RowWrite, Tombstone
from durabletask_azure.core.state import fold
from durabletask_azure.core.turn import Turn
from durabletask_azure.engine.inbox import Item
from durabletask_azure.engine.loader import UnreadableRowError
from durabletask_azure.engine.orphans import collect_orphans
from durabletask_azure.engine.retrying import patiently
from durabletask_azure.errors import HistoryMissingError, TaskHubError
from durabletask_azure.ports import Delivery, InstanceFilter, InstancePage

if TYPE_CHECKING:
    from durabletask_azure.engine.partition import PartitionOwner

__all__ = ["Recovery"]

T = TypeVar("T")
_log = logging.getLogger("durabletask_azure.engine.recovery")
_TOMBSTONES_MAX = 40
_AHEAD = timedelta(seconds=2)
"""How far ahead a sweep looks: a store may tell whole seconds only, so what came just now seems to be due later."""


class Recovery:
    """Take-over, sweep, careful mode and housekeeping of one partition owner."""

    def __init__(self, owner: PartitionOwner) -> None:
        self._owner = owner
        self._ports = owner.ports
        self._settings = owner.settings
        self._condemned: dict[str, FailureDetails] = {}
        self._codeless: dict[str, None] = {}
        self._is_wary = False
        """Whether all that waits since the take-over is suspicious: one owner after the other ended over it."""
        self.wants_session = False
        """Set once per sweep: the session is to be let go of at the next idle moment."""

    async def resume(self, before: LockRow) -> None:
        """Send again what the last owner may not have sent, before anything new, and look for what is due."""
        owner = self._owner
        # An attempt that is noted still is one that a process ended over.
        self._is_wary = before.vain >= self._settings.careful_delivery_count or bool(before.attempts)
        if self._is_wary:
            _log.warning("%s: owners ended over it: what waits is handled one by one", owner.name)
        if self._ports.atomic is None:
            rows = await self._patiently(
                "reading the outbox", lambda: self._ports.store.read_outbox(owner.partition)
            )
            owner.committer.adopt_outbox(rows)
            names = dict.fromkeys(name for row in rows if row.n > before.sent for name in row.unsent)
            names.update(dict.fromkeys(before.unsent))
            owner.sender.begin(before.n, list(names))
            for name in names:
                since = before.sent + 1
                unsent = await self.unsent_of(name, since, before.n)
                owner.sender.add(before.n, unsent, since=since)
            for row in rows:
                if before.sent < row.n <= before.n:
                    owner.sender.add(before.n, row.messages)
            owner.sender.end(before.n)
        await self.sweep()

    async def unsent_of(self, instance_id: str, since: int, until: int) -> list[Outbound]:
        """Return what an instance sends by its commits from ``since`` to ``until``; nothing if it cannot be read."""
        try:
            return await self._read_unsent(instance_id, since, until)
        except (UnreadableRowError, HistoryMissingError, msgspec.DecodeError) as error:
            _log.error("%s: what %r has not sent is lost: %s", self._owner.name, instance_id, error)
            return []

    async def _read_unsent(self, instance_id: str, since: int, until: int) -> list[Outbound]:
        owner = self._owner
        instance = await owner.loader.instance(instance_id)
        row = instance.row
        if row is None:
            return []
        outbound: list[Outbound] = []
        for past in row.past:
            if past.commit >= since and past.readable:
                lines = await self._patiently(
                    f"reading an earlier execution of {instance_id!r}",
                    lambda past=past: self._ports.store.read_segments(
                        owner.partition, instance_id, past.execution_id, past.segments
                    ),
                )
                earlier = Instance(instance_id)
                events = decode_events(lines)
                earlier.state = fold(events)
                outbound += self._sends(events, since, until, earlier)
        if row.commit >= since and instance.state.started is not None:
            lines = await self._history(instance)
            outbound += self._sends(decode_events(lines), since, until, instance)
        return outbound

    def _sends(
        self, events: Sequence[HistoryEvent], since: int, until: int, instance: Instance
    ) -> list[Outbound]:
        written = [event for event in events if event.commit <= until]
        return unsent_messages(written, since - 1, instance.state, self._origin(instance))

    async def _history(self, instance: Instance) -> bytes:
        row = instance.row
        if row is None or not row.segments:
            return b"".join(instance.tail)
        segments = await self._patiently(
            f"reading the history of {instance.instance_id!r}",
            lambda: self._ports.store.read_segments(
                self._owner.partition, row.instance_id, row.execution_id, row.segments
            ),
        )
        return segments + b"".join(instance.tail)

    def _origin(self, instance: Instance) -> Origin:
        return instance.origin(self._owner.partition, self._ports.info.partitions)

    # ------------------------------------------------------------------ sweep

    async def keep_sweeping(self) -> None:
        """Sweep and collect orphans at intervals, and retry instances whose code was not here."""
        settings, clock = self._settings, self._ports.clock
        every = min(settings.sweep_s, settings.unregistered_retry_s, settings.orphan_collect_s)
        waited = uncollected = 0.0
        while self._owner.is_alive():
            await clock.sleep(every)
            waited += every
            uncollected += every
            for instance_id in list(self._codeless):
                self._owner.inbox.nudge(instance_id)
            if uncollected >= settings.orphan_collect_s:
                uncollected = 0.0
                await self._collect()
            if waited >= settings.sweep_s:
                waited = 0.0
                self._owner.committer.forget_inherited()
                await self._owner.committer.write_idle()
                await self.sweep()
                self.wants_session = True

    async def sweep(self) -> None:
        """Ask for a turn of every instance with an overdue start or timer; remove expired tombstones."""
        now = await self._patiently("asking the store's time", self._ports.store.server_time)
        where = InstanceFilter(due_before=now + _AHEAD)
        token: str | None = None
        while True:
            page = await self._page(where, token)
            for row in page.rows:
                self._owner.inbox.nudge(row.instance_id)
            for name in page.unreadable:
                _log.error("%s: instance %r may be due and cannot be read", self._owner.name, name)
            token = page.token
            if token is None:
                break
        await self._bury(now)

    async def _collect(self) -> None:
        """Collect orphaned values; what fails is tried again at the next interval."""
        try:
            await collect_orphans(self._ports, self._owner.partition, self._settings.orphan_age_s)
        except TaskHubError as error:
            _log.warning("%s: orphaned values are left for later: %s", self._owner.name, error)

    async def _page(self, where: InstanceFilter, token: str | None) -> InstancePage:
        return await self._patiently(
            "looking for what is due",
            lambda: self._ports.store.query(
                self._owner.partition, where, count_max=self._settings.page_size_max, token=token
            ),
        )

    async def _bury(self, now: datetime) -> None:
        """Remove all expired tombstones, a portion in each transaction."""
        while True:
            expired = await self._patiently(
                "looking for expired tombstones",
                lambda: self._ports.store.expired_tombstones(self._owner.partition, now, _TOMBSTONES_MAX),
            )
            for tombstone in expired:
                await self._clear(tombstone)
            if expired:
                graves = [DeleteTombstone(tombstone.instance_id) for tombstone in expired]
                await self._owner.committer.maintain(graves)
            if len(expired) < _TOMBSTONES_MAX:
                return

    async def _clear(self, tombstone: Tombstone) -> None:
        """Delete segments that a crash may have left behind a purge."""
        writes: list[RowWrite] = [
            DeleteSegments(tombstone.instance_id, past.execution_id, 0, past.segments)
            for past in tombstone.leftovers
            if past.segments
        ]
        limits = self._ports.limits
        for part in transactions(writes, rows_max=limits.rows_max - 1, bytes_max=limits.bytes_max):
            await self._owner.committer.maintain(part)

    # ------------------------------------------------------------------ suspicion

    async def careful(self, items: list[Item]) -> list[Item]:
        """Return the items to run now: all of them, or a single one that was delivered suspiciously often.

        What a process has ended over while it was handled by itself is handled so until it is done with.
        """
        attempts, inbox = self._owner.committer.attempts, self._owner.inbox
        if not (self._is_wary or attempts or inbox.delivery_count >= self._settings.careful_delivery_count):
            return items
        for position, item in enumerate(items):
            is_known = bool(attempts) and item.attempt_key in attempts
            if not (self._is_wary or is_known or self._is_suspicious(item)):
                continue
            if position > 0:
                inbox.give_back(items[position:])
                return items[:position]
            inbox.give_back(items[1:])
            # What waited at the take-over is dealt with once messages have come and none is left.
            self._is_wary = self._is_wary and (item.origin is None or len(inbox) > 0)
            await self._note(item)
            return items[:1]
        return items

    def _is_suspicious(self, item: Item) -> bool:
        return (
            item.inbound is not None and item.inbound.delivery_count >= self._settings.careful_delivery_count
        )

    async def _note(self, item: Item) -> None:
        if item.origin is None and item.inbound is not None:  # an order of the owner's own
            return
        await self._owner.quiet.begin(self._owner)
        self._owner.counters.careful_turns += 1
        before = await self._owner.committer.note_attempt(item.attempt_key)
        if before >= self._settings.careful_delivery_count:
            what = "what is due of the instance" if item.inbound is None else "a message to the instance"
            self.condemn(
                item.instance_id,
                FailureDetails(
                    message=f"{what} could not be handled: {before} workers ended over it",
                    error_type="PoisonMessage",
                ),
            )

    @property
    def has_condemned(self) -> bool:
        """Whether any instance is to be failed at its next turn."""
        return bool(self._condemned)

    def condemn(self, instance_id: str, failure: FailureDetails) -> None:
        """Have the instance failed instead of run at its next turn."""
        self._condemned[instance_id] = failure

    def poisoned(self, items: Sequence[Item]) -> FailureDetails | None:
        """Return why the instance of these items is to be failed, if it is."""
        return self._condemned.pop(items[0].instance_id, None) if self._condemned else None

    async def put_aside(self, items: Sequence[Item], why: str) -> None:
        """Dead-letter the messages of an instance that cannot be read."""
        _log.error("%s: %s", self._owner.name, why)
        for item in items:
            if item.origin is None:
                continue
            item.origin.left -= 1
            if item.origin.left == 0:
                await self.dead_letter(item.origin.delivery, "unreadable-instance", why)

    async def dead_letter(self, delivery: Delivery, reason: str, description: str) -> None:
        """Put a broker message aside, with a reason."""
        self._owner.counters.dead_lettered += 1
        _log.error(
            "%s: message %s is dead-lettered (%s): %s", self._owner.name, delivery.id, reason, description
        )
        await self._patiently(
            "dead-lettering a message",
            lambda: self._owner.session.dead_letter(delivery, reason, description[:1024]),
        )

    # ------------------------------------------------------------------ after a commit

    def after_all(self, turns: Sequence[Turn], *, are_plain: bool) -> None:
        """Do what committed turns ask for beyond their messages."""
        if are_plain and not self._codeless:
            return
        for turn in turns:
            self.after(turn)

    def after(self, turn: Turn) -> None:
        """Do what a committed turn asks for beyond its messages."""
        row = turn.instance.row
        instance_id = turn.instance.instance_id
        if row is not None and row.reason is not None:
            if instance_id not in self._codeless:
                _log.warning("instance %r waits: %s", instance_id, row.reason)
            self._codeless[instance_id] = None
        elif self._codeless:
            self._codeless.pop(instance_id, None)
        if row is not None and row.ready:
            self._owner.inbox.nudge(instance_id)
        if turn.cancels:
            self._owner.spawn(self._cancel(turn.cancels))
        if turn.dropped_payloads:
            self._owner.spawn(self._drop_payloads(turn.dropped_payloads))

    async def _cancel(self, message_ids: Sequence[str]) -> None:
        try:
            await self._ports.orchestrations.cancel_scheduled(self._owner.partition, message_ids)
        except TaskHubError as error:
            _log.info("%s: cancelled timers stay in the queue: %s", self._owner.name, error)

    async def _drop_payloads(self, prefixes: Sequence[str]) -> None:
        try:
            for prefix in prefixes:
                names = [name async for name, _ in self._ports.payloads.list(prefix)]
                if names:
                    await self._ports.payloads.delete(names)
        except TaskHubError as error:
            _log.warning("%s: payloads are left to orphan collection: %s", self._owner.name, error)

    async def _patiently(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        return await patiently(self._ports.clock, self._settings, what, call, keep_going=self._owner.is_alive)

"""Commits what turns came to, in order, and follows every commit to its end: sent, completed, cleaned up.

While one batch is committed the next is being run. If a commit fails, everything that was run after it is given back
and dropped from memory (``epoch`` tells): live orchestrators cannot roll back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from durabletask_azure.core.commit import Group, plan_groups
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.instance import Instance
from durabletask_azure.core.rows import DeleteOutbox, LockRow, OutboxRow, PutOutbox, RowWrite, write_rows
from durabletask_azure.core.turn import Turn
from durabletask_azure.engine.inbox import Item
from durabletask_azure.engine.retrying import patiently
from durabletask_azure.engine.work import Attempts, Work, closing_of, settle
from durabletask_azure.errors import CommitRefusedError
from durabletask_azure.ports import Delivery, Receipt

if TYPE_CHECKING:
    from durabletask_azure.engine.partition import PartitionOwner

__all__ = ["Committer"]

_log = logging.getLogger("durabletask_azure.engine.committing")
_IDLE_S = 0.2
_LOCK_ROW_BYTES = 80_000
_UNSENT_INDEX = 1_000_000
_OUTBOX_DELETES_MAX = 20


class Committer:
    """The commit side of one partition owner."""

    def __init__(self, owner: PartitionOwner) -> None:
        self._owner = owner
        self._ports = owner.ports
        self._settings = owner.settings
        self._atomic = owner.ports.atomic
        self._queue: deque[Work] = deque()
        self._moved = asyncio.Event()
        self._filled = asyncio.Event()
        self._lock = asyncio.Lock()
        self._next = 1
        self._stale = False
        self._groups = 0
        self._unsettled: dict[str, None] = {}
        self._inherited: dict[str, None] = {}
        """What the last owner left unsettled: most of it was completed after all, so it is forgotten at the sweep."""
        self._loose: list[Delivery] = []
        self._completing = False
        self._outbox: dict[tuple[int, int], None] = {}
        self.attempts = Attempts()
        self.epoch = 0
        self.busy_since: float | None = None

    def begin(self, before: LockRow) -> None:
        """Start committing after what the last owner left."""
        self._next = before.n + 1
        self._inherited = dict.fromkeys(before.unsettled)
        self.attempts.take_over(before.attempts)
        self._owner.sender.confirmed = before.sent if self._atomic is None else before.n
        self._owner.spawn(self._run())
        if self._atomic is None:
            self._owner.spawn(self._write_when_idle())

    # ------------------------------------------------------------------ for the loop

    def next_n(self) -> int:
        """Take the next commit number."""
        self._next += 1
        return self._next - 1

    def sent(self) -> int:
        """Return the newest commit whose sends are confirmed."""
        return self._owner.chain.row.n if self._atomic is not None else self._owner.sender.confirmed

    def submit(self, work: Work) -> None:
        """Commit a batch when its turn comes."""
        if not work.is_plain and all(turn.is_empty for turn in work.turns) and self._next == work.n + 1:
            self._next = work.n
        self._queue.append(work)
        self._filled.set()

    async def room(self) -> None:
        """Wait until another batch may be run ahead of the commits under way."""
        while len(self._queue) >= self._settings.pipeline_turns_max and self._owner.is_alive():
            await self.moved()

    async def moved(self) -> None:
        """Wait until something was committed, completed, or the owner stops."""
        self._moved.clear()
        await self._moved.wait()

    async def drain(self) -> None:
        """Wait until everything submitted is committed or given back."""
        while self._queue and self._owner.is_alive():
            await self.moved()

    async def settle_failures(self) -> None:
        """After a failed commit, wait for the later ones to be given back and continue from the lock row's number."""
        if self._stale:
            await self.drain()
            self._stale = False
            self._next = self._owner.chain.row.n + 1

    def give_back(self, items: Iterable[Item], instances: Iterable[Instance]) -> None:
        """Have items handled again, by instances loaded anew."""
        for instance in instances:
            self._owner.warm.drop(self._owner.partition, instance.instance_id)
        self._owner.inbox.give_back(items)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being committed or waits for its completion."""
        return not self._queue and not self._unsettled and not self._loose

    def is_full(self) -> bool:
        """Whether so many messages are committed but not completed that no more may be received."""
        return len(self._unsettled) >= self._settings.unsettled_max

    @property
    def has_settled(self) -> bool:
        """Whether any message is committed and not known to be completed."""
        return bool(self._unsettled or self._inherited)

    def is_settled(self, delivery: Delivery) -> bool:
        """Whether a redelivered message is known to be committed: it only has to be completed."""
        return delivery.id in self._unsettled or self._inherited.pop(delivery.id, self) is not self

    def wake(self) -> None:
        """Make every waiter look around."""
        self._moved.set()
        self._filled.set()

    def stop(self) -> None:
        """Commit nothing any more, and let waiters go."""
        self._queue.clear()
        self.wake()

    # ------------------------------------------------------------------ commits

    async def _run(self) -> None:
        while self._owner.is_alive():
            if not self._queue:
                self._filled.clear()
                await self._filled.wait()
                continue
            work = self._queue[0]
            if work.epoch == self.epoch:
                self.busy_since = self._ports.clock.monotonic()
                async with self._lock:
                    await self._commit(work)
                self.busy_since = None
            else:
                self.give_back(work.items(), work.pinned)
            self._queue.popleft()
            if not self._queue:
                self.complete(())
            self._moved.set()

    async def _commit(self, work: Work) -> None:
        self._groups = 0
        if work.is_plain and self._takes_at_once(len(work.turns)):
            groups = deque((Group(work.n, work.turns),))
        else:
            groups = deque(await self._prepared(work))
        while groups:
            group = groups.popleft()
            own = work.items_of(group.turns)
            closing = closing_of(own)
            try:
                receipt = await self._transact(group, own, closing, is_last=not groups)
            except CommitRefusedError as error:
                groups.extendleft(reversed(self._refused(group, error, work)))
                continue
            await self._applied(group, own, closing, receipt, are_plain=work.is_plain)
        if self._owner.chain.row.n >= work.n:
            self._owner.sender.end(work.n)
        else:
            self._owner.sender.withdraw(work.n)
        self._owner.warm.unpin(self._owner.partition, work.pinned)

    def _takes_at_once(self, turns: int) -> bool:
        """Whether one transaction takes the rows of so many plain turns, whatever is in them."""
        limits = self._ports.limits
        return self._atomic is not None and limits.bytes_max is None and turns <= limits.rows_max - 2

    async def _prepared(self, work: Work) -> list[Group]:
        """Upload what turns refer to, and end those that came to nothing; return the plan for the others."""
        await self._owner.loader.store(work.turns)
        turns: list[Turn] = []
        for turn, own in zip(work.turns, work.handled, strict=True):
            if turn.is_empty:
                closing = closing_of(own)
                self.attempts.forget(own)
                self.complete(closing)
                settle(own)
            else:
                turns.append(turn)
        return self._plan(turns, work.n)

    def _plan(self, turns: Sequence[Turn], n: int) -> list[Group]:
        limits = self._ports.limits
        groups = plan_groups(
            turns,
            n,
            rows_max=limits.rows_max - 2,
            bytes_max=None if limits.bytes_max is None else limits.bytes_max - _LOCK_ROW_BYTES,
            instances_max=self._settings.commit_instances_max if self._atomic is None else limits.rows_max,
            keep_outbox=self._atomic is None,
            first=self._groups,
        )
        self._groups += len(groups)
        return groups

    async def _transact(
        self, group: Group, items: Sequence[Item], closing: Sequence[Delivery], *, is_last: bool
    ) -> Receipt | None:
        chain = self._owner.chain
        for part in group.staged:
            await chain.commit(part)
        self._owner.counters.commits += 1
        attempts = self.attempts.noted(items)
        # What the sweep found is handled before anything is delivered, and says nothing about what then ends the owner.
        vain = 0 if any(item.origin is not None for item in items) else chain.row.vain
        if self._atomic is not None:
            atomic, completes = self._atomic, [*self._loose, *closing]
            receipt = await chain.execute(
                lambda row, etag: atomic.execute(
                    self._owner.partition,
                    row,
                    etag,
                    group.writes(),
                    sends=group.sends,
                    session=self._owner.session,
                    completes=completes,
                ),
                n=group.n,
                sent=group.n if is_last else chain.row.sent,
                unsent=(),
                unsettled=(),
                attempts=attempts,
                vain=vain,
            )
            self._forget_loose(completes)
            return receipt
        self._owner.sender.begin(group.n, [t.instance.instance_id for t in group.turns if t.outbound])
        writes = group.writes()
        writes += self._outbox_deletes(sum(write_rows(write) for write in writes))
        lock = self._bookkeeping([*self._unsettled, *(delivery.id for delivery in closing)], writes)
        return await self._write(writes, n=group.n, attempts=attempts, vain=vain, **lock)

    async def _write(self, writes: Sequence[RowWrite], **lock: Any) -> Receipt | None:
        """Commit, and note which outbox rows there are by now: a refused commit changes nothing about that."""
        receipt = await self._owner.chain.commit(writes, **lock)
        self.adopt_outbox(write.row for write in writes if isinstance(write, PutOutbox))
        for write in writes:
            if isinstance(write, DeleteOutbox):
                self._outbox.pop((write.n, write.index), None)
        return receipt

    def _bookkeeping(self, unsettled: list[str], writes: list[RowWrite]) -> dict[str, Any]:
        """Return the lock row's ``sent``, ``unsent`` and ``unsettled``; names that do not fit go to an outbox row."""
        unsent = self._owner.sender.unsent()
        limit = self._settings.unsent_names_max
        if len(unsent) > limit:
            n, index = self._owner.chain.row.n + 1, _UNSENT_INDEX
            while (n, index) in self._outbox:
                index += 1
            writes.append(PutOutbox(OutboxRow(n=n, index=index, unsent=tuple(unsent[:-limit]))))
            unsent = unsent[-limit:]
        return {"sent": self._owner.sender.confirmed, "unsent": tuple(unsent), "unsettled": tuple(unsettled)}

    def _outbox_deletes(self, beside: int) -> Sequence[RowWrite]:
        """Return deletions of outbox rows that are sent, as many as a transaction takes beside other rows."""
        sent = self._owner.sender.confirmed
        room = max(0, min(_OUTBOX_DELETES_MAX, self._ports.limits.rows_max - 2 - beside))
        return [DeleteOutbox(n, index) for n, index in self._outbox if n <= sent][:room]

    async def _applied(
        self,
        group: Group,
        items: Sequence[Item],
        closing: Sequence[Delivery],
        receipt: Receipt | None,
        *,
        are_plain: bool,
    ) -> None:
        owner = self._owner
        settle(items)
        self.attempts.forget(items)
        if self._atomic is None:
            owner.sender.add(group.n, group.sends)
            self._unsettled.update((delivery.id, None) for delivery in closing)
            self.complete(closing)
        else:
            owner.counters.messages_sent += len(group.sends)
        for turn in group.turns:
            instance = turn.instance
            if receipt is None:
                self._evict(instance)
            else:
                instance.etag = None if instance.row is None else receipt.etags.get(instance.instance_id)
        owner.recovery.after_all(group.turns, are_plain=are_plain)
        for part in group.cleanup:
            try:
                await owner.chain.commit(part)
            except CommitRefusedError as error:
                _log.warning("%s: rows of past executions could not be deleted: %s", owner.name, error)

    def _refused(self, group: Group, error: CommitRefusedError, work: Work) -> list[Group]:
        """Find the offending turn of a refused group, by halves if need be; return what is to be committed instead."""
        owner = self._owner
        culprits = [turn for turn in group.turns if error.row_key == f"i!{turn.instance.instance_id}"]
        if not culprits and len(group.turns) > 1:
            middle = len(group.turns) // 2
            return [*self._plan(group.turns[:middle], group.n), *self._plan(group.turns[middle:], group.n)]
        for turn in culprits or group.turns:
            if not error.conflict:
                _log.error("instance %r: its commit is refused: %s", turn.instance.instance_id, error)
                owner.recovery.condemn(
                    turn.instance.instance_id,
                    FailureDetails(
                        message=f"the commit was refused: {error}", error_type="CommitRefusedError"
                    ),
                )
            self._evict(turn.instance)
            owner.inbox.give_back(work.items_of([turn]))
        bad = {id(turn) for turn in (culprits or group.turns)}
        return self._plan([turn for turn in group.turns if id(turn) not in bad], group.n)

    def _evict(self, instance: Instance) -> None:
        """Drop an instance, and with it all that was run after this commit."""
        self._owner.warm.drop(self._owner.partition, instance.instance_id)
        self.epoch += 1
        self._stale = True

    # ------------------------------------------------------------------ deliveries

    def complete(self, deliveries: Sequence[Delivery]) -> None:
        """Complete messages whose effect is committed; with shared transactions they ride on the next commit."""
        self._loose.extend(deliveries)
        if self._loose and not self._completing and (self._atomic is None or not self._queue):
            self._completing = True
            self._owner.spawn(self._complete_loose())

    def forget_inherited(self) -> None:
        """Forget what a former owner left unsettled or tried: what was not delivered again by now was completed."""
        self._inherited.clear()
        self.attempts.take_over(())

    async def flush_completions(self) -> None:
        """Wait until everything is completed."""
        while (self._loose or self._completing) and self._owner.is_alive():
            if not self._completing:
                self._completing = True
                self._owner.spawn(self._complete_loose())
            await self.moved()

    async def _complete_loose(self) -> None:
        try:
            while self._loose:
                batch = list(self._loose)
                await patiently(
                    self._ports.clock,
                    self._settings,
                    f"completing {len(batch)} messages of {self._owner.name}",
                    lambda batch=batch: self._owner.session.complete(batch),
                    keep_going=self._owner.is_alive,
                )
                self._forget_loose(batch)
                for delivery in batch:
                    self._unsettled.pop(delivery.id, None)
                self._moved.set()
        finally:
            self._completing = False
            self._moved.set()

    def _forget_loose(self, completed: Sequence[Delivery]) -> None:
        if not self._loose:
            return
        done = {id(delivery) for delivery in completed}
        self._loose = [delivery for delivery in self._loose if id(delivery) not in done]

    # ------------------------------------------------------------------ writes without turns

    async def note_attempt(self, key: str) -> int:
        """Note in the lock row that something suspicious is about to be handled alone; return how often it was."""
        count = self.attempts.begin(key)
        await self.drain()
        await self._write_lock(attempts=self.attempts.noted())
        return count

    async def end_attempt(self) -> None:
        """Have the lock row say that the attempt is over, also where there was nothing to commit or it was refused."""
        await self.drain()
        self.attempts.end()
        if self._owner.is_alive() and self._owner.chain.row.attempts != self.attempts.noted():
            await self._write_lock(attempts=self.attempts.noted())

    async def note_order(self) -> None:
        """Do not count this tenure, which ends in order, among those in vain: it may not have come to their end."""
        if (vain := self._owner.chain.row.vain) > 1:
            await self._write_lock(vain=vain - 1)

    async def _write_lock(self, **lock: Any) -> None:
        async with self._lock:
            self._owner.counters.lock_writes += 1
            await self._owner.chain.commit((), **lock)

    async def maintain(self, writes: Sequence[RowWrite]) -> None:
        """Apply housekeeping writes between commits."""
        async with self._lock:
            await self._owner.chain.commit(writes)

    def adopt_outbox(self, rows: Iterable[OutboxRow]) -> None:
        """Know of outbox rows, a former owner's too: they are deleted once sent."""
        self._outbox.update(((row.n, row.index), None) for row in rows)

    async def write_idle(self) -> None:
        """Bring the lock row up to date when nothing else does."""
        if self._atomic is not None:
            return
        while self._is_behind() and self._owner.is_alive():
            async with self._lock:
                self._owner.counters.lock_writes += 1
                writes = [*self._outbox_deletes(0)]
                lock = self._bookkeeping(list(self._unsettled), writes)
                await self._write(writes, **lock)

    def _is_behind(self) -> bool:
        row, sent = self._owner.chain.row, self._owner.sender.confirmed
        settled = len(self._unsettled) < len(row.unsettled)
        return settled or sent > row.sent or any(n <= sent for n, _ in self._outbox)

    async def _write_when_idle(self) -> None:
        sender = self._owner.sender
        while self._owner.is_alive():
            await sender.changed.wait()
            sender.changed.clear()
            await self._ports.clock.sleep(_IDLE_S)
            if not self._queue and self._owner.is_alive():
                await self.write_idle()

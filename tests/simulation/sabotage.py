"""What the mutants put in the place of the product's own functions: each takes the original and returns the change."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from durabletask_azure.core import starts
from durabletask_azure.core.rows import DeleteSegments, PutSegment
from durabletask_azure.engine.retrying import RETRIED
from durabletask_azure.errors import PartitionLostError
from durabletask_azure.ports import Delivery
from tests.simulation.fakes.table import CommitRecord

__all__ = [
    "any_execution",
    "any_number_of_deletes",
    "archive_as_sent",
    "cancels_everything",
    "child_starts_again",
    "complete_first",
    "deletes_forgotten",
    "does_nothing",
    "does_nothing_async",
    "finds_nothing",
    "forget",
    "late_resend",
    "local_clock",
    "no_fence",
    "no_open_task_check",
    "no_resend",
    "no_tombstone",
    "not_kept",
    "not_parked",
    "nothing_carried",
    "nothing_in_the_outbox",
    "one_blob_name",
    "opens_nothing",
    "own_commit_is_not_recognised",
    "own_refusal_is_a_rival",
    "refused_as_any_other",
    "renew_blindly",
    "rows_before_fence",
    "send_first",
    "sent_early",
    "sequence_watermark",
    "session_leaked",
    "suspicious_of_none",
    "trimmed_after_the_commit",
    "unfenced_staging",
    "unsent_names_dropped",
    "values_of_stale_messages",
    "without_a_failure",
]


def does_nothing(original: Any) -> Any:
    def nothing(*arguments: Any) -> None:
        pass

    return nothing


def without_a_failure(original: Any) -> Any:
    def point(events: Any, failure: Any) -> Any:
        return original(events, None)

    return point


def refused_as_any_other(original: Any) -> Any:
    return starts.child_start


def no_fence(original: Any) -> Any:
    async def transact(self: Any, row: Any, transaction: Any) -> Any:
        self.etag = (await self._read_lock()).etag
        return await original(self, row, transaction)

    return transact


def unfenced_staging(original: Any) -> Any:
    async def commit(self: Any, writes: Any, **lock: Any) -> Any:
        if lock or not all(isinstance(write, PutSegment) for write in writes):
            return await original(self, writes, **lock)
        store, partition = self._store, self.partition

        def effect() -> None:
            rows = store._table.rows(partition)
            for write in writes:
                rows.segments[write.instance_id, write.execution_id, write.index] = bytes(write.events)
            unseen = msgspec.structs.replace(rows.lock.row, commit_id=uuid.uuid4().hex)
            now = store._gate.world.now()
            store._table.log.append(CommitRecord(now, store._gate.name, partition, unseen, tuple(writes)))

        await store._gate.call("store.commit", effect)
        return None

    return commit


def rows_before_fence(original: Any) -> Any:
    async def take_over(self: Any) -> Any:
        before = (await self._read_lock()).row
        await self._clock.sleep(10.0)
        await original(self)
        return before

    return take_over


def complete_first(original: Any) -> Any:
    async def take_in(self: Any, deliveries: Sequence[Delivery]) -> None:
        await self.session.complete(deliveries)
        await original(self, deliveries)

    return take_in


def sent_early(original: Any) -> Any:
    def end(self: Any, n: int) -> None:
        original(self, n)
        self.confirmed = max(self.confirmed, n)

    return end


def no_resend(original: Any) -> Any:
    async def resume(self: Any, before: Any) -> None:
        self._owner.sender.confirmed = before.n
        await self.sweep()

    return resume


def late_resend(original: Any) -> Any:
    async def resume(self: Any, before: Any) -> None:
        async def later() -> None:
            await self._ports.clock.sleep(3.0)
            await original(self, before)

        self._owner.spawn(later())

    return resume


def send_first(original: Any) -> Any:
    async def transact(self: Any, group: Any, *arguments: Any, **options: Any) -> Any:
        for out in group.sends:
            queue = self._ports.activities if hasattr(out, "task") else self._ports.orchestrations
            await queue.send([out])
        return await original(self, group, *arguments, **options)

    return transact


def no_open_task_check(original: Any) -> Any:
    def accept(self: Any, item: Any, body: Any) -> None:
        number = getattr(body, "task_scheduled_id", None)
        if number is not None and number not in self.instance.state.tasks:
            self.push(msgspec.structs.replace(body, timestamp=item.enqueued_at, commit=self.ctx.n))
            return
        original(self, item, body)

    return accept


def forget(original: Any) -> Any:
    def see(self: Any, source_id: str, event: Any) -> None:
        return None

    return see


def nothing_carried(original: Any) -> Any:
    def seen_to_carry(self: Any, *arguments: Any) -> tuple[Any, ...]:
        return ()

    return seen_to_carry


def sequence_watermark(original: Any) -> Any:
    async def take_in(self: Any, deliveries: Sequence[Delivery]) -> None:
        highest: dict[int, int] = self.warm.__dict__.setdefault("watermarks", {})
        fresh: list[Delivery] = []
        for delivery in deliveries:
            number = getattr(delivery.token, "number", 0)
            if number > highest.get(self.partition, 0):
                highest[self.partition] = number
                fresh.append(delivery)
            else:
                self.committer.complete([delivery])
        await original(self, fresh)

    return take_in


def own_commit_is_not_recognised(original: Any) -> Any:
    async def has_landed(self: Any, row: Any) -> bool:
        stored = await self._read_lock()
        if stored.etag != self.etag:
            self.row, self.etag = stored.row, stored.etag
            raise PartitionLostError("a commit of its own is taken for a rival's")
        return False

    return has_landed


def own_refusal_is_a_rival(original: Any) -> Any:
    async def has_landed(self: Any, row: Any) -> bool:
        if await original(self, row):
            raise PartitionLostError("a commit of its own is taken for a rival's")
        return False

    return has_landed


def local_clock(original: Any) -> Any:
    async def take_in(self: Any, deliveries: Sequence[Delivery]) -> None:
        now = self.ports.clock.now()
        await original(self, [msgspec.structs.replace(delivery, enqueued_at=now) for delivery in deliveries])

    return take_in


def one_blob_name(original: Any) -> Any:
    def payload_name(partition: int, instance_id: str, execution_id: str, text: bytes) -> str:
        return original(partition, instance_id, execution_id, b"")

    return payload_name


def no_tombstone(original: Any) -> Any:
    def init(self: Any, instance_id: str, tombstone: Any = None) -> None:
        original(self, instance_id, None)

    return init


def archive_as_sent(original: Any) -> Any:
    def archive(self: Any) -> Any:
        *earlier, last = original(self)
        return (*earlier, msgspec.structs.replace(last, commit=0))

    return archive


def child_starts_again(original: Any) -> Any:
    def child_start(admission: Any, item: Any, started: Any) -> None:
        if admission.instance.is_terminal:
            starts.start_over(admission, item, started)
        else:
            original(admission, item, started)

    return child_start


def any_execution(original: Any) -> Any:
    def admit(self: Any, item: Any) -> None:
        message = msgspec.structs.replace(item.message, execution_id=None)
        original(self, msgspec.structs.replace(item, message=message))

    return admit


def does_nothing_async(original: Any) -> Any:
    async def nothing(self: Any, *arguments: Any) -> None:
        for name in ("wants_session",):
            for owner in (self, getattr(self, "recovery", None)):
                if owner is not None and hasattr(owner, name):
                    setattr(owner, name, False)

    return nothing


def unsent_names_dropped(original: Any) -> Any:
    def bookkeeping(self: Any, unsettled: Any, writes: list[Any]) -> Any:
        count = len(writes)
        lock = original(self, unsettled, writes)
        del writes[count:]
        return lock

    return bookkeeping


def nothing_in_the_outbox(original: Any) -> Any:
    async def read_outbox(self: Any, partition: int) -> Sequence[Any]:
        return ()

    return read_outbox


def renew_blindly(original: Any) -> Any:
    async def renew(self: Any) -> None:
        while self.is_alive():
            await self.ports.clock.sleep(self.settings.lock_s / 3)
            self._beat = (self.ports.clock.monotonic(), self.ports.clock.now())
            try:
                await self.session.renew()
            except RETRIED:
                continue

    return renew


def finds_nothing(original: Any) -> Any:
    async def look(self: Any) -> int:
        return 0

    return look


def not_kept(original: Any) -> Any:
    def keep(self: Any, item: Any) -> None:
        self.drop(item, "a mutant does not keep it")

    return keep


def not_parked(original: Any) -> Any:
    def put_back(self: Any, item: Any, **options: Any) -> None:
        if not options.get("park"):
            original(self, item, **options)

    return put_back


def opens_nothing(original: Any) -> Any:
    async def open_(self: Any, *arguments: Any) -> list[Any]:
        return []

    return open_


def suspicious_of_none(original: Any) -> Any:
    def is_suspicious(self: Any, item: Any) -> bool:
        return False

    return is_suspicious


def values_of_stale_messages(original: Any) -> Any:
    def needed_refs(instance: Any, inbound: Any) -> Any:
        replace = msgspec.structs.replace
        for_any = [replace(one, message=replace(one.message, execution_id=None)) for one in inbound]
        return original(instance, for_any)

    return needed_refs


def any_number_of_deletes(original: Any) -> Any:
    def outbox_deletes(self: Any, beside: int) -> Any:
        return original(self, -1_000)

    return outbox_deletes


def deletes_forgotten(original: Any) -> Any:
    def outbox_deletes(self: Any, beside: int) -> Any:
        deletes = original(self, beside)
        for write in deletes:
            self._outbox.pop((write.n, write.index))
        return deletes

    return outbox_deletes


def session_leaked(original: Any) -> Any:
    async def take_session_again(self: Any) -> None:
        self.recovery.wants_session = False
        await self.session.close()
        session = await self.ports.orchestrations.accept(self.partition)
        if session is None:
            raise PartitionLostError("another worker took the session while it was let go of")
        self.session = session

    return take_session_again


def trimmed_after_the_commit(original: Any) -> Any:
    def trim_past(turn: Any, ctx: Any) -> None:
        original(turn, ctx)
        turn.cleanup += tuple(write for write in turn.main if isinstance(write, DeleteSegments))
        turn.main = tuple(write for write in turn.main if not isinstance(write, DeleteSegments))

    return trim_past


def cancels_everything(original: Any) -> Any:
    def abandon(self: Any) -> None:
        original(self)
        for task in tuple(self._tasks):
            task.cancel()

    return abandon

"""What clients read: the state of instances, their histories, and pages of them.

Reading needs no owner: rows are consistent as committed. Spilled values are fetched here, so what is handed out holds
text only. Listing reads no history; it goes through the partitions in order, and each by instance id (DESIGN 5). Tags
are compared here, after a page was read: no store has an index of them, and large ones are kept outside the row.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import AsyncIterator, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import msgspec

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import Failure, HistoryEvent, decode_events, payload_refs, replay_refs
from durabletask_azure.core.partitioning import partition_of
from durabletask_azure.core.payloads import BlobRef, Payload, check_own, resolve
from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.engine.attempts import retried
from durabletask_azure.errors import (
    ConfigurationError,
    HubUnavailableError,
    InstanceUnreadableError,
    OrchestrationNotFoundError,
    PayloadMissingError,
)
from durabletask_azure.ports import HubPorts, InstanceFilter, StoredInstance
from durabletask_azure.settings import Settings

__all__ = ["InstancePage", "InstanceReader", "InstanceReport", "ResolvedHistory", "report_of"]

_log = logging.getLogger("durabletask_azure.engine.instances")
_FETCHES_MAX = 16
_REPORTS_MAX = 8
_HISTORY_TRIES = 5
_failure_decoder = msgspec.json.Decoder(FailureDetails)
_tags_decoder = msgspec.json.Decoder(dict[str, str])


class InstanceReport(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An instance row with its values as text; ``input`` and ``output`` are ``None`` when they were not asked for."""

    row: InstanceRow
    input: str | None
    output: str | None
    custom_status: str | None
    failure: FailureDetails | None
    tags: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class InstancePage:
    """Some instances and the token of the next page (``None``: there is none)."""

    rows: Sequence[InstanceRow]
    token: str | None


@dataclass(frozen=True, slots=True)
class ResolvedHistory:
    """The events of one execution and, by name, the text of the spilled values they refer to.

    What the orchestration sent to others belongs to them: it is missing here once they are purged.
    """

    events: Sequence[HistoryEvent]
    loaded: dict[str, str]


class InstanceReader:
    """Reads the instances of a hub."""

    def __init__(self, ports: HubPorts, settings: Settings) -> None:
        self._ports = ports
        self._settings = settings

    def partition_of(self, instance_id: str) -> int:
        """Return the partition that owns an instance."""
        return partition_of(instance_id, self._ports.info.partitions)

    async def stored(self, instance_id: str) -> StoredInstance | None:
        """Return an instance's row and ETag, ``None`` if there is no such instance.

        Raises:
            InstanceUnreadableError: the row cannot be decoded.
        """
        partition = self.partition_of(instance_id)
        store = self._ports.store
        try:
            found = await retried(
                lambda: store.read_instance(partition, instance_id),
                self._ports.clock,
                self._settings.send_retry_s_max,
            )
            if found is not None and found.row.instance_id != instance_id:
                raise msgspec.DecodeError(f"it is of {found.row.instance_id!r}")
        except msgspec.DecodeError as error:
            raise _unreadable(instance_id, error) from error
        return found

    async def state(self, instance_id: str, *, fetch_payloads: bool) -> InstanceReport | None:
        """Return the state of an instance, ``None`` if there is no such instance.

        Raises:
            PayloadMissingError: a spilled value is gone or damaged.
            InstanceUnreadableError: what is stored cannot be decoded.
        """
        stored = await self.stored(instance_id)
        return None if stored is None else await self.report(stored.row, fetch_payloads=fetch_payloads)

    async def report(self, row: InstanceRow, *, fetch_payloads: bool) -> InstanceReport:
        """Return a row with its values as text; errors as :meth:`state`."""
        refs = _spilled(row, fetch_payloads=fetch_payloads)
        loaded = await self._load(row.instance_id, refs) if refs else {}
        return report_of(row, loaded, fetch_payloads=fetch_payloads)

    async def history(self, instance_id: str, execution_id: str | None = None) -> ResolvedHistory:
        """Return the history of an instance's current execution, or of an earlier one that is still kept.

        Raises:
            OrchestrationNotFoundError: there is no such instance, or its execution is not kept.
            PayloadMissingError: a spilled value of the instance's own is gone or damaged.
            HubUnavailableError: the instance changed too fast to be read.
        """
        events = await self.events(instance_id, execution_id)
        needed = {ref.name for ref in replay_refs(events)}
        return ResolvedHistory(events, await self._load(instance_id, payload_refs(events), needed))

    async def events(self, instance_id: str, execution_id: str | None = None) -> list[HistoryEvent]:
        """Return the events :meth:`history` returns, their spilled values as references."""
        failure: HubUnavailableError | None = None
        for _ in range(_HISTORY_TRIES):
            stored = await self.stored(instance_id)
            if stored is None:
                raise OrchestrationNotFoundError(f"there is no orchestration instance {instance_id!r}")
            row = stored.row
            execution, count, tail = row.execution_id, row.segments, row.tail
            if execution_id not in (None, execution):
                past = next((past for past in row.past if past.execution_id == execution_id), None)
                if past is None or not past.readable:
                    raise OrchestrationNotFoundError(
                        f"the orchestration instance {instance_id!r} keeps no history of an execution {execution_id!r}"
                    )
                execution, count, tail = past.execution_id, past.segments, b""
            try:
                segments = await self._segments(instance_id, execution, count)
            except HubUnavailableError as error:
                failure = (
                    error  # the row was of a moment ago: a purge or a newer execution took its segments away
                )
                continue
            try:
                return decode_events(segments + tail)
            except msgspec.DecodeError as error:
                raise _unreadable(instance_id, error) from error
        assert failure is not None
        raise failure

    async def page(
        self,
        where: InstanceFilter,
        *,
        tags: Mapping[str, str] | None = None,
        count_max: int,
        token: str | None,
    ) -> InstancePage:
        """Return ``count_max`` instances from all partitions, fewer only at the end; each partition's in order of id.

        ``tags`` are those an instance must have, among others.

        Raises:
            ConfigurationError: the token is not one of this query's.
        """
        query = _query_text(self._ports.info.incarnation, where, tags)
        partition, inner = (0, None) if token is None else _read_token(token, query)
        rows: list[InstanceRow] = []
        while partition < self._ports.info.partitions:
            wanted = count_max - len(rows)
            if tags is None:
                found = await self._query(partition, where, wanted, inner)
            else:
                found = await self._query_tagged(partition, where, tags, wanted, inner)
            rows += found.rows
            inner = found.token
            if inner is None:
                partition += 1
            if len(rows) >= count_max:
                break
        last = partition >= self._ports.info.partitions
        return InstancePage(rows, None if last else _write_token(query, partition, inner))

    async def all(
        self, where: InstanceFilter, *, tags: Mapping[str, str] | None = None, page_size: int
    ) -> AsyncIterator[Sequence[InstanceRow]]:
        """Yield every instance that fits, page by page."""
        token: str | None = None
        while True:
            page = await self.page(where, tags=tags, count_max=page_size, token=token)
            if page.rows:
                yield page.rows
            token = page.token
            if token is None:
                return

    async def reports(self, rows: Sequence[InstanceRow], *, fetch_payloads: bool) -> list[InstanceReport]:
        """Return :meth:`report` of each row, in order; some rows' values are fetched at once.

        What cannot be decoded is left out, with a line in the log.
        """
        places = asyncio.Semaphore(_REPORTS_MAX)

        async def one(row: InstanceRow) -> InstanceReport | None:
            async with places:
                try:
                    return await self.report(row, fetch_payloads=fetch_payloads)
                except InstanceUnreadableError as error:
                    _log.warning("left out of what was asked for: %s", error)
                    return None

        found = await asyncio.gather(*map(one, rows))
        return [report for report in found if report is not None]

    async def _query(
        self, partition: int, where: InstanceFilter, count_max: int, token: str | None
    ) -> InstancePage:
        count_max = max(1, min(count_max, self._settings.page_size_max))
        if where.ids:
            own = [instance_id for instance_id in where.ids if self.partition_of(instance_id) == partition]
            if not own:
                return InstancePage((), None)
            where = replace(where, ids=own)
        store = self._ports.store
        found = await retried(
            lambda: store.query(partition, where, count_max=count_max, token=token),
            self._ports.clock,
            self._settings.send_retry_s_max,
        )
        for name in found.unreadable:
            _log.warning("instance %r cannot be read, and is left out of what was asked for", name)
        return InstancePage(found.rows, found.token)

    async def _query_tagged(
        self, partition: int, where: InstanceFilter, tags: Mapping[str, str], wanted: int, token: str | None
    ) -> InstancePage:
        """Return :meth:`_query`'s rows that have all of these tags, at most ``wanted``."""
        asked = self._settings.page_size_max
        while True:
            found = await self._query(partition, where, asked, token)
            chosen = [place for place, row in enumerate(found.rows) if await self._has_tags(row, tags)]
            if len(chosen) <= wanted:
                return InstancePage([found.rows[place] for place in chosen], found.token)
            # A token is only given for the end of a page: ask for one that ends with the last row wanted.
            asked = chosen[wanted - 1] + 1

    async def _has_tags(self, row: InstanceRow, tags: Mapping[str, str]) -> bool:
        loaded = await self._load(row.instance_id, [row.tags]) if isinstance(row.tags, BlobRef) else {}
        text = resolve(row.tags, loaded)
        try:
            return text is not None and tags.items() <= _tags_decoder.decode(text).items()
        except msgspec.DecodeError:
            return False  # whatever they were, nobody can tell

    async def _segments(self, instance_id: str, execution_id: str, count: int) -> bytes:
        if not count:
            return b""
        return await self._ports.store.read_segments(
            self.partition_of(instance_id), instance_id, execution_id, count
        )

    async def _load(
        self, instance_id: str, refs: Iterable[BlobRef], needed: Container[str] | None = None
    ) -> dict[str, str]:
        """Return the texts of spilled values by name; those not ``needed`` may be gone, and are left out then."""
        wanted = {ref.name: ref for ref in refs}
        if not wanted:
            return {}
        places = asyncio.Semaphore(_FETCHES_MAX)
        payloads, partition = self._ports.payloads, self.partition_of(instance_id)

        async def fetch(ref: BlobRef) -> str | None:
            async with places:
                try:
                    check_own(ref, partition, instance_id)
                    data = await retried(
                        lambda: payloads.get(ref.name, ref.size),
                        self._ports.clock,
                        self._settings.send_retry_s_max,
                    )
                except PayloadMissingError:
                    if needed is None or ref.name in needed:
                        raise
                    return None
                return data.decode()

        texts = await asyncio.gather(*(fetch(ref) for ref in wanted.values()))
        return {name: text for name, text in zip(wanted, texts, strict=True) if text is not None}


def _spilled(row: InstanceRow, *, fetch_payloads: bool) -> list[BlobRef]:
    """Return those values of a row that a report of it needs and that are not in the row."""
    values: tuple[Payload | Failure, ...] = (row.custom_status, row.tags, row.failure)
    if fetch_payloads:
        values += (row.input, row.output)
    return [value for value in values if type(value) is BlobRef]


def report_of(row: InstanceRow, loaded: Mapping[str, str], *, fetch_payloads: bool) -> InstanceReport:
    """Return the report of a row; ``loaded`` are the texts of values that are not in it, by name.

    Raises:
        PayloadMissingError: one that is needed is not among them.
        InstanceUnreadableError: what is stored cannot be decoded.
    """
    failure, text = row.failure, resolve(row.tags, loaded)
    try:
        if isinstance(failure, BlobRef):
            failure = _failure_decoder.decode(cast(str, resolve(failure, loaded)))
        tags = None if text is None else _tags_decoder.decode(text)
    except msgspec.DecodeError as error:
        raise _unreadable(row.instance_id, error) from error
    return InstanceReport(
        row=row,
        input=resolve(row.input, loaded) if fetch_payloads else None,
        output=resolve(row.output, loaded) if fetch_payloads else None,
        custom_status=resolve(row.custom_status, loaded),
        failure=failure,
        tags=tags,
    )


class _Token(msgspec.Struct, frozen=True, array_like=True):
    mark: str
    partition: int
    inner: str | None


_token_encoder = msgspec.json.Encoder()
_token_decoder = msgspec.json.Decoder(_Token)


def _query_text(incarnation: str, where: InstanceFilter, tags: Mapping[str, str] | None) -> str:
    return f"{incarnation} {where!r} {None if tags is None else sorted(tags.items())!r}"


def _mark(query: str, partition: int, inner: str | None) -> str:
    text = f"{partition} {inner} {query}"
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()


def _write_token(query: str, partition: int, inner: str | None) -> str:
    token = _Token(_mark(query, partition, inner), partition, inner)
    return base64.urlsafe_b64encode(_token_encoder.encode(token)).decode()


def _read_token(token: str, query: str) -> tuple[int, str | None]:
    """Return where a listing goes on; the mark ties the token to hub, query and place."""
    try:
        read = _token_decoder.decode(base64.urlsafe_b64decode(token.encode("ascii")))
    except (ValueError, msgspec.MsgspecError) as error:
        raise ConfigurationError("continuation_token must be one that a page of a query came with") from error
    if read.mark != _mark(query, read.partition, read.inner):
        raise ConfigurationError(
            "continuation_token must be one that a page of this query came with, not of another query or hub"
        )
    return read.partition, read.inner


def _unreadable(instance_id: str, error: msgspec.DecodeError) -> InstanceUnreadableError:
    return InstanceUnreadableError(f"what is stored of instance {instance_id!r} cannot be read: {error}")

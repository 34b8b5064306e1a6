"""Listing instances: a filter as SQL with parameters, and the token that continues a listing.

Three ways to an answer; the filter decides which, never what is found: by the index of due rows, for the sweep; by the
index of statuses, if few instances have those asked for; else along the ids, at most ``_LOOKED_AT_MAX`` rows a call, so
that a search with few finds does not hold up other long reads.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

import msgspec

from durabletask_azure.adapters.local.clock import to_us
from durabletask_azure.adapters.local.reader import Reader, Row
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.ports import InstanceFilter

__all__ = ["query_page"]

_LOOKED_AT_MAX = 10_000
_FEW = 2_000
_BY_ID = "instances_by_id"
_BY_STATUS = "instances_by_status"
_DUE = "instances_due"
_TEXT = "CAST(body AS TEXT)"
_VERSION = f"CASE WHEN json_valid({_TEXT}) THEN json_extract({_TEXT}, '$.version') END"
_END_OF_LOOK = (
    "SELECT id FROM instances INDEXED BY instances_by_id WHERE partition = ? AND id >= ?"
    " ORDER BY id LIMIT 1 OFFSET ?"
)


_MORE_THAN_FEW = f"SELECT 1 FROM instances INDEXED BY {_BY_STATUS} WHERE {{}} LIMIT 1 OFFSET ?"  # noqa: S608


class _Token(msgspec.Struct, frozen=True, array_like=True):
    query: str
    after: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Token).decode


class _Terms:
    """The conditions of a statement, and their values."""

    def __init__(self, partition: int) -> None:
        self.terms = ["partition = ?"]
        self.values: list[object] = [partition]

    def add(self, term: str, *values: object) -> None:
        self.terms.append(term)
        self.values.extend(values)

    def among(self, column: str, chosen: Sequence[object]) -> None:
        self.add(f"{column} IN ({', '.join('?' * len(chosen))})", *chosen)


async def query_page(
    reader: Reader, partition: int, where: InstanceFilter, size: int, token: str | None
) -> tuple[list[Row], str | None]:
    """Return rows of ``id`` and ``body``, at most ``size``, and the token of the next page.

    Raises:
        ConfigurationError: the token is not one of this query's. HubUnavailableError: as the reader says.
    """
    terms = _conditions(partition, where)
    after = "" if token is None else _read_token(partition, where, token)
    if token is not None:
        terms.add("id > ?", after)
    index = await _index(reader, partition, where)
    end: str | None = None
    if index == _BY_ID and not where.ids:
        end = await _end_of_look(reader, partition, where.id_prefix or "", after)
        if end is not None:
            terms.add("id <= ?", end)
    # Column and index names come from this module, values only as parameters.
    sql = f"SELECT id, body FROM instances INDEXED BY {index} WHERE {' AND '.join(terms.terms)} ORDER BY id LIMIT ?"  # noqa: S608
    rows = await reader.long_rows(sql, [*terms.values, size + 1])
    if len(rows) > size:
        return rows[:size], _write_token(partition, where, rows[size - 1][0])
    return rows, None if end is None else _write_token(partition, where, end)


async def _end_of_look(reader: Reader, partition: int, prefix: str, after: str) -> str | None:
    """Return the id up to which one call may look; ``None`` if it may look at all that may fit."""
    found = await reader.long_rows(_END_OF_LOOK, (partition, max(after, prefix), _LOOKED_AT_MAX))
    return found[0][0] if found and found[0][0].startswith(prefix) else None


def _conditions(partition: int, where: InstanceFilter) -> _Terms:
    terms = _Terms(partition)
    if where.ids:
        terms.among("id", where.ids)
    if where.id_prefix:
        terms.add("id >= ?", where.id_prefix)
        end = _after_prefix(where.id_prefix)
        if end is not None:
            terms.add("id < ?", end)
    if where.statuses:
        terms.among("status", [str(status) for status in where.statuses])
    if where.names:
        terms.among("name", where.names)
    if where.versions:
        given = [version for version in where.versions if version is not None]
        either = [f"{_VERSION} IN ({', '.join('?' * len(given))})"] if given else []
        if len(given) < len(where.versions):
            either.append(f"{_VERSION} IS NULL")
        terms.add(f"({' OR '.join(either)})", *given)
    for column in ("created", "updated", "completed"):
        start, stop = getattr(where, f"{column}_from"), getattr(where, f"{column}_to")
        if start is not None:
            terms.add(f"{column}_at >= ?", to_us(start))
        if stop is not None:
            terms.add(f"{column}_at <= ?", to_us(stop))
    if where.due_before is not None:
        terms.add("due_at IS NOT NULL AND due_at <= ?", to_us(where.due_before))
    if where.with_reason is not None:
        terms.add("has_reason = ?", where.with_reason)
    return terms


async def _index(reader: Reader, partition: int, where: InstanceFilter) -> str:
    """Return the index that finds the answer with the fewest rows looked at."""
    if where.due_before is not None:
        return _DUE
    if not where.statuses or where.ids:
        return _BY_ID
    terms = _Terms(partition)
    terms.among("status", [str(status) for status in where.statuses])
    found = await reader.long_rows(_MORE_THAN_FEW.format(" AND ".join(terms.terms)), [*terms.values, _FEW])
    return _BY_ID if found else _BY_STATUS


def _write_token(partition: int, where: InstanceFilter, last_id: str) -> str:
    return base64.urlsafe_b64encode(_encode(_Token(_fingerprint(partition, where), last_id))).decode()


def _read_token(partition: int, where: InstanceFilter, token: str) -> str:
    try:
        read = _decode(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, msgspec.MsgspecError) as error:
        raise ConfigurationError("the page token is not one that a query of this hub returned") from error
    if read.query != _fingerprint(partition, where):
        raise ConfigurationError(
            "the page token belongs to a query with another filter or of another partition"
        )
    return read.after


def _fingerprint(partition: int, where: InstanceFilter) -> str:
    return hashlib.blake2b(f"{partition} {where!r}".encode("utf-8", "replace"), digest_size=8).hexdigest()


def _after_prefix(prefix: str) -> str | None:
    """Return the least text above all that start with ``prefix`` (texts compare by code point), if there is one."""
    for place in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[place])
        if code < 0x10FFFF:
            following = 0xE000 if 0xD7FF <= code < 0xE000 else code + 1
            return prefix[:place] + chr(following)
    return None

"""Listing instances: a filter as SQL with parameters, and the token that continues a listing."""

from __future__ import annotations

import base64
import hashlib

import msgspec

from durabletask_azure.adapters.local.clock import to_us
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.ports import InstanceFilter

__all__ = ["page_token", "query_sql"]


class _Token(msgspec.Struct, frozen=True, array_like=True):
    query: str
    after: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Token).decode


def query_sql(
    partition: int, where: InstanceFilter, count_max: int, token: str | None
) -> tuple[str, list[object]]:
    """Return statement and parameters of a page: columns ``id`` and ``body``, one row more than the page holds.

    Raises:
        ConfigurationError: the token is not one of this query's.
    """
    terms = ["partition = ?"]
    values: list[object] = [partition]

    def add(term: str, *parameters: object) -> None:
        terms.append(term)
        values.extend(parameters)

    if token is not None:
        add("id > ?", _read_token(partition, where, token))
    if where.id_prefix:
        add("id >= ?", where.id_prefix)
        end = _after_prefix(where.id_prefix)
        if end is not None:
            add("id < ?", end)
    for column, chosen in (("status", where.statuses), ("name", where.names)):
        if chosen:
            add(f"{column} IN ({', '.join('?' * len(chosen))})", *(str(value) for value in chosen))
    for column in ("created", "updated", "completed"):
        start, stop = getattr(where, f"{column}_from"), getattr(where, f"{column}_to")
        if start is not None:
            add(f"{column}_at >= ?", to_us(start))
        if stop is not None:
            add(f"{column}_at <= ?", to_us(stop))
    index = "instances_by_id"
    if where.due_before is not None:
        # The sweep's question: few rows answer it, and their index finds them.
        index = "instances_due"
        add("due_at IS NOT NULL AND due_at <= ?", to_us(where.due_before))
    if where.with_reason is not None:
        add("has_reason = ?", where.with_reason)
    condition = " AND ".join(terms)
    # Column and index names come from this module, values only as parameters.
    sql = f"SELECT id, body FROM instances INDEXED BY {index} WHERE {condition} ORDER BY id LIMIT ?"  # noqa: S608
    return sql, [*values, count_max + 1]


def page_token(partition: int, where: InstanceFilter, last_id: str) -> str:
    """Return the token of the page after the one that ends with ``last_id``."""
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

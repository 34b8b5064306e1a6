"""Listing instances: what the service compares, what is compared here, and the token that continues a listing.

Instances come in order of their keys: of their ids by code points, but for long ids that begin alike (``keys.py``).
The service takes 15 comparisons in a filter. What does not fit is compared here, as is everything once more: what the
service leaves out is only an economy. A list of ids becomes one point read each, since the service answers a filter
that names several rows by looking at every row of the partition.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from durabletask_azure.adapters.tables.entities import queryable_time
from durabletask_azure.adapters.tables.keys import INSTANCES, key_after, prefix_range
from durabletask_azure.core.partitioning import partition_name
from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.ports import InstanceFilter

__all__ = ["Filter", "fits", "instance_filter", "read_token", "write_token"]

_COMPARISONS_MAX = 15
_TEXT_MAX = 2_000
"""Characters of names in one filter: it becomes part of an address."""


class Filter:
    """A filter of the service: its terms, joined by ``and``, and their values, which are only ever parameters."""

    def __init__(self, partition: int, first: str, beyond: str) -> None:
        self._terms = ["PartitionKey eq @p", "RowKey ge @first", "RowKey lt @beyond"]
        self._left = _COMPARISONS_MAX - len(self._terms)
        self.values: dict[str, Any] = {"p": partition_name(partition), "first": first, "beyond": beyond}

    @property
    def text(self) -> str:
        """The filter, for the SDK to put the values in."""
        return " and ".join(self._terms)

    def compare(self, name: str, operator: str, value: object) -> None:
        """Add a comparison, if there is room for one."""
        if self._left > 0:
            self._left -= 1
            self._terms.append(f"{name} {operator} {self._value(value)}")

    def among(self, name: str, chosen: Sequence[str]) -> None:
        """Add that a property is one of several texts, if there is room for all of them; nothing for no text."""
        if chosen and len(chosen) <= self._left and self._fit_in_an_address(chosen):
            self._left -= len(chosen)
            either = " or ".join(f"{name} eq {self._value(value)}" for value in chosen)
            self._terms.append(f"( {either} )")

    @staticmethod
    def _fit_in_an_address(texts: Sequence[str]) -> bool:
        try:
            return sum(len(text.encode()) for text in texts) <= _TEXT_MAX
        except UnicodeEncodeError:  # nothing stored is like that
            return False

    def _value(self, value: object) -> str:
        if isinstance(value, datetime):
            # The SDK writes a time in full only as one; the stored form is of the same precision.
            value = datetime.fromisoformat(queryable_time(value)[0])
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f"@{name}"


def instance_filter(partition: int, where: InstanceFilter) -> Filter:
    """Return the filter for instances, as far as the service takes it."""
    first, beyond = (INSTANCES, key_after(INSTANCES))
    if where.id_prefix:
        first, beyond = prefix_range(where.id_prefix)
    made = Filter(partition, first, beyond)
    if where.due_before is not None:
        made.compare("due_at", "le", where.due_before)
    for name, earliest, latest in _ranges(where):
        if earliest is not None:
            made.compare(name, "ge", earliest)
        if latest is not None:
            made.compare(name, "le", latest)
    if where.with_reason is not None:
        made.compare("has_reason", "eq", where.with_reason)
    made.among("status", [status.value for status in where.statuses])
    made.among("name", where.names)
    versions = [version for version in where.versions if version is not None]
    if len(versions) == len(where.versions):
        made.among("version", versions)
    elif not versions:
        made.compare("has_version", "eq", False)
    return made


def _ranges(where: InstanceFilter) -> list[tuple[str, datetime | None, datetime | None]]:
    return [
        ("created_at", where.created_from, where.created_to),
        ("updated_at", where.updated_from, where.updated_to),
        ("completed_at", where.completed_from, where.completed_to),
    ]


def fits(row: InstanceRow, where: InstanceFilter) -> bool:
    """Return whether an instance fits a filter, its list of ids left out."""
    if where.id_prefix and not row.instance_id.startswith(where.id_prefix):
        return False
    if where.statuses and row.status not in where.statuses:
        return False
    if where.names and row.name not in where.names:
        return False
    if where.versions and row.version not in where.versions:
        return False
    if where.with_reason is not None and where.with_reason != (row.reason is not None):
        return False
    if where.due_before is not None and (row.due_at is None or row.due_at > where.due_before):
        return False
    return all(_within(getattr(row, name), earliest, latest) for name, earliest, latest in _ranges(where))


def _within(moment: datetime | None, earliest: datetime | None, latest: datetime | None) -> bool:
    if earliest is None and latest is None:
        return True
    if moment is None:
        return False
    return (earliest is None or earliest <= moment) and (latest is None or moment <= latest)


class _Token(msgspec.Struct, frozen=True, array_like=True):
    query: str
    place: dict[str, str | None]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Token).decode


def write_token(partition: int, where: InstanceFilter, place: dict[str, str | None]) -> str:
    """Return the token of a listing that goes on at ``place``."""
    return base64.urlsafe_b64encode(_encode(_Token(_fingerprint(partition, where), place))).decode()


def read_token(partition: int, where: InstanceFilter, token: str) -> dict[str, str | None]:
    """Return where a listing goes on.

    Raises:
        ConfigurationError: the token is not one of this query's.
    """
    try:
        read = _decode(base64.urlsafe_b64decode(token.encode("ascii")))
    except (ValueError, msgspec.MsgspecError) as error:
        raise ConfigurationError("the page token is not one that a query of this hub returned") from error
    if read.query != _fingerprint(partition, where):
        raise ConfigurationError(
            "the page token belongs to a query with another filter or of another partition"
        )
    return read.place


def _fingerprint(partition: int, where: InstanceFilter) -> str:
    return hashlib.blake2b(f"{partition} {where!r}".encode("utf-8", "replace"), digest_size=8).hexdigest()

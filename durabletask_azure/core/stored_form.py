"""Reads the stored form of types: JSON by msgspec, with one kind of error for whatever bytes may be wrong in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

__all__ = ["NOT_READABLE", "Moment", "read_all", "reader_of"]

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its zone: what is stored without one was not written by this package, and compares with nothing."""

T = TypeVar("T")
K = TypeVar("K")
S = TypeVar("S")

NOT_READABLE = (UnicodeDecodeError, RecursionError)
"""What msgspec raises beside its own errors: for bytes that are no UTF-8, and for values nested too deep."""


def reader_of(kind: type[T]) -> Callable[[bytes], T]:
    """Return a function that reads the stored form of ``kind``; it raises ``msgspec.DecodeError`` and nothing else."""
    decode: Callable[[Any], T] = msgspec.json.Decoder(kind).decode

    def read(data: bytes) -> T:
        try:
            return decode(data)
        except NOT_READABLE as error:
            raise msgspec.DecodeError(f"{type(error).__name__}: {error}") from error

    return read


def read_all(read: Callable[[S], T], found: Iterable[tuple[K, S]]) -> tuple[list[T], list[K]]:
    """Return what ``read`` makes of what was found, and the keys of what it cannot read."""
    values: list[T] = []
    unreadable: list[K] = []
    for key, stored in found:
        try:
            values.append(read(stored))
        except msgspec.DecodeError:
            unreadable.append(key)
    return values, unreadable

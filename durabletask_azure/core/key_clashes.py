"""Finds dictionaries that JSON would merge: two keys, such as ``1`` and ``"1"``, that have the same text."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Final, cast

from durabletask_azure.core.rebuilding import stored_fields

__all__ = ["find_key_clash"]

_LEAVES: Final = frozenset((str, int, float, bool, bytes, type(None)))


def find_key_clash(value: Any) -> tuple[Any, Any] | None:
    """Return two keys of one dictionary, anywhere in a value, that would be one in JSON."""
    waiting: list[Any] = [value]
    looked_at: dict[int, Any] = {}  # what a value holds twice, or itself, is looked at once
    while waiting:
        part = waiting.pop()
        if type(part) in _LEAVES or id(part) in looked_at:
            continue
        looked_at[id(part)] = part
        if isinstance(part, dict):
            entries = cast(dict[Any, Any], part)
            found = _clash_in(entries)
            if found is not None:
                return found
            waiting += entries.values()
        elif isinstance(part, (list, tuple, set, frozenset)):
            waiting += cast(list[Any], part)
        else:
            waiting += (stored_fields(part) or {}).values()
    return None


def _clash_in(keys: Iterable[Any]) -> tuple[Any, Any] | None:
    texts: dict[str, Any] = {}
    for key in keys:
        other = texts.setdefault(_text_of(key), key)
        if other is not key:
            return other, key
    return None


def _text_of(key: Any) -> str:
    """Return what JSON makes of a key."""
    if isinstance(key, Enum):
        key = key.value
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    return float.__repr__(key) if isinstance(key, float) else str(key)

"""Changes stored and sent bytes at random, as a seed says: broken bytes, and JSON that is whole but wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, Final, cast

ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63), 1e308, 0.5),
    *("", "0", "null", "\u0000", "é", "\U0001f388", "x" * 2_000, "~codec:k1:AAAA", "[" * 500, "~codec::"),
    *("../../etc/passwd", "https://example.invalid/a?sig=b", "' OR 1=1 --", "RowKey ge ''", "%2e%2e%2f"),
    *(
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        "2026-01-01T00:00:00",
        "1970-01-01T00:00:00+14:00",
    ),
    {"kind": "blob", "name": "p000/../../x", "size": -1},
    {"kind": "blob", "name": "p000/v/x/y/" + "0" * 64, "size": 2**40},
    *([], {}, [[]], [None], {"kind": "StartInstance"}, {"a": {"b": {"c": []}}}),
)
TOKENS: Final = (
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"\\",
    b"\xff",
    b"\x00",
    b"\xed\xa0\x80",
    b"1e999",
    b"\n",
    b"[" * 20_000,
    b'{"inner_failure":' * 5_000,
)
NESTED_MAX: Final = 150
_ODD_TEXTS: Final = [json.dumps(value) for value in ODD]


class Mutator:
    """Makes bytes out of other bytes of a corpus, which all are JSON."""

    def __init__(self, seed: int, corpus: Sequence[bytes]) -> None:
        self._random = random.Random(seed)
        self._corpus = list(corpus)

    def one(self) -> bytes:
        """Return a changed member of the corpus."""
        data = self._random.choice(self._corpus)
        if self._random.random() < 0.75:
            return self._wrong_values(data)
        return self._wrong_bytes(data)

    def _wrong_bytes(self, data: bytes) -> bytes:
        mangled = bytearray(data)
        draw = self._random
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(mangled) + 1)
            end = min(len(mangled), at + draw.randint(1, 20))
            match draw.randrange(6):
                case 0 if at < len(mangled):
                    mangled[at] ^= 1 << draw.randrange(8)
                case 1:
                    del mangled[at:end]
                case 2:
                    mangled[at:at] = mangled[at:end]
                case 3:
                    mangled[at:at] = draw.choice(TOKENS)
                case 4:
                    del mangled[at:]
                case _:
                    other = draw.choice(self._corpus)
                    mangled[at:] = other[draw.randrange(len(other)) :]
        return bytes(mangled)

    def _wrong_values(self, data: bytes) -> bytes:
        tree: Any = json.loads(data)
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            tree = self._changed(tree)
        return json.dumps(tree).encode()

    def _changed(self, tree: Any) -> Any:
        """Return a tree with a change somewhere; what is not changed is shared."""
        draw = self._random
        places = list(_places(tree))
        if not places or draw.random() < 0.02:
            return json.loads(draw.choice(_ODD_TEXTS))
        holder, key = draw.choice(places)
        match draw.randrange(7):
            case 0 | 1 | 2:
                holder[key] = json.loads(draw.choice(_ODD_TEXTS))
            case 3:
                del holder[key]
            case 4 if isinstance(holder, list):
                cast(list[Any], holder).append(holder[key])
            case 4:
                holder[f"{key}_"] = holder.pop(key)
            case 5:
                other, place = draw.choice(places)
                holder[key] = json.loads(json.dumps(other[place]))
            case _:
                holder[key] = self._nested(holder[key])
        return tree

    def _nested(self, value: Any) -> Any:
        for _ in range(self._random.choice((1, 10, NESTED_MAX))):
            value = cast(Any, [value] if self._random.random() < 0.5 else {"inner_failure": value})
        return value


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Return every place of a tree: what holds it, and under which key."""
    places: list[tuple[Any, Any]] = []
    waiting: list[Any] = [tree]
    while waiting:
        holder: Any = waiting.pop()
        for key in _keys(holder):
            places.append((holder, key))
            waiting.append(holder[key])
    return places


def _keys(holder: object) -> list[Any]:
    if isinstance(holder, dict):
        return list(cast(dict[str, Any], holder))
    return list(range(len(cast(list[Any], holder)))) if isinstance(holder, list) else []

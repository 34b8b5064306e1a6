"""Everything public in Microsoft's ``durabletask`` 1.12 is here under its name, with its parameters and defaults."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pytest

from tests.parity.missing import MISSING
from tests.parity.surface import differing, lacking


def test_the_package_that_is_compared_with_is_1_12() -> None:
    assert version("durabletask").split(".")[:2] == ["1", "12"]


def test_nothing_is_missing_but_what_the_table_says() -> None:
    found = list(lacking())
    listed = [path for paths in MISSING.values() for path in paths]
    assert len(found) == len(set(found))
    assert len(listed) == len(set(listed)), "tests/parity/missing.py names a path twice"
    new = sorted(set(found) - set(listed))
    assert new == [], (
        "durabletask has these and durabletask_azure has not; add them there or to tests/parity/missing.py"
    )
    stale = sorted(set(listed) - set(found))
    assert stale == [], "these are not missing any more; remove them from tests/parity/missing.py"


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Palette(enum.Enum):
    RED = 1
    BLUE = 3


@dataclass
class Point:
    x: int
    y: int = 0


@dataclass
class Vector:
    y: int
    x: int = 0


class BadValueError(ValueError):
    pass


class BadThingError(Exception):
    pass


class Shop:
    @property
    def name(self) -> str:
        return ""

    def sell(self, item: str, *, price: int = 1, tags: Any = None) -> None: ...

    async def close(self) -> None: ...


class Stall:
    def sell(self, item: str, amount: int, *, price: int = 2) -> None: ...

    def close(self) -> None: ...


class Market(Shop):
    def sell(self, item: str = "any", *, price: int = 1, tags: Any = None, more: bool = False) -> None: ...


@pytest.mark.parametrize(
    ("theirs", "ours", "found"),
    [
        (Colour, Palette, ["p.BLUE"]),
        (Point, Vector, ["p(x)", "p(y)"]),
        (BadValueError, BadThingError, ["p: ValueError"]),
        (
            Shop,
            Stall,
            ["p.name", "p.sell(price)", "p.sell(tags)", "p.sell: needs amount", "p.close: async"],
        ),
        (Shop, Market, []),
        (Shop, 3, ["p"]),
    ],
)
def test_differences_are_found(theirs: Any, ours: Any, found: list[str]) -> None:
    assert list(differing("p", theirs, ours)) == found

"""The codec: every supported type comes back as it was, and what cannot be stored is an error at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, NamedTuple, Protocol, TypedDict, TypeVar, cast
from uuid import UUID

import msgspec
import pytest

from durabletask_azure.core.annotations import signature_of
from durabletask_azure.core.codec import JsonDataConverter, checked_converter
from durabletask_azure.errors import ArgumentTypeError, SerializationError

CODEC = JsonDataConverter()


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Item:
    name: str
    at: datetime
    sizes: set[int] = field(default_factory=set[int])


@dataclass
class Shelf:
    places: dict[Any, Any]


@dataclass
class Order:
    items: list[Item]
    colour: Colour = Colour.RED
    note: str | None = None


class Point(msgspec.Struct):
    x: int
    y: float


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict):
    depth: int
    until: date


class Money:
    """Takes part by hooks of its own."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    def __hash__(self) -> int:
        return hash(self.cents)

    def to_json(self) -> dict[str, int]:
        return {"cents": self.cents}

    @classmethod
    def from_json(cls, value: dict[str, int]) -> Money:
        return cls(value["cents"])


class Model:
    """Looks like a pydantic model."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and other.size == self.size

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        return {"size": self.size, "mode": mode}

    @classmethod
    def model_validate(cls, value: dict[str, Any]) -> Model:
        return cls(int(value["size"]))


@dataclass
class Cart:
    price: Money
    model: Model


NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("text", str),
        ("snow ☃ and 🎉", str),
        (5, int),
        (2**80, int),
        (True, bool),
        (1.5, float),
        ([1, [2]], list),
        ({"a": None}, dict),
        (NOW, datetime),
        (NOW.date(), date),
        (NOW.time(), time),
        (timedelta(days=2, seconds=1.5), timedelta),
        (UUID(int=5), UUID),
        (Decimal("1.10"), Decimal),
        (b"\x00\xff", bytes),
        ({3, 1, 2}, set[int]),
        (frozenset({"b", "a"}), frozenset[str]),
        ((1, "a"), tuple[int, str]),
        (Colour.RED, Colour),
        (Level.HIGH, Level),
        (Item("a", NOW, {2, 1}), Item),
        (Order([Item("a", NOW)]), Order),
        (Point(1, 2.0), Point),
        ([Point(1, 2.0)], list[Point]),
        ({"a": Point(1, 2.0)}, dict[str, Point]),
        (Pair(1, "r"), Pair),
        ({"depth": 1, "until": NOW.date()}, Options),
        (Money(5), Money),
        ([Money(5)], list[Money]),
        (Model(2), Model),
        (Cart(Money(1), Model(2)), Cart),
        (Item("a", NOW), Item | None),
        ({1: "one"}, dict[int, str]),
    ],
)
def test_a_value_comes_back_by_its_annotation(value: Any, target: Any) -> None:
    text = CODEC.serialize(value)
    assert text is not None
    json.loads(text)
    assert CODEC.deserialize(text, target) == value


def test_nothing_is_no_payload() -> None:
    assert CODEC.serialize(None) is None
    assert CODEC.deserialize(None, Item) is None
    assert CODEC.deserialize("null", Item) is None


def test_text_is_compact_and_the_same_in_every_process() -> None:
    assert CODEC.serialize({"b": [1, 2], "a": {"z", "x", "y"}}) == '{"b":[1,2],"a":["x","y","z"]}'
    assert CODEC.serialize("é") == '"é"'
    assert CODEC.serialize(False) == "false"


def test_what_other_writers_of_json_leave_is_read() -> None:
    assert str(CODEC.deserialize("[NaN]")) == "[nan]"
    assert CODEC.deserialize("1e400") == float("inf")


def test_an_annotation_that_cannot_be_hashed_is_used_all_the_same() -> None:
    assert CODEC.deserialize("7", Annotated[int, []]) == 7


def test_half_a_surrogate_pair_is_escaped() -> None:
    text = CODEC.serialize({"a": "\ud83d"})
    assert text == '{"a":"\\ud83d"}'
    assert CODEC.deserialize(text) == {"a": "\ud83d"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), r"float cannot be stored: \$ \(nan\) is not a finite number"),
        ({"rates": [1.0, (2.0, float("inf"))]}, r"\$\.rates\[1\]\[1\] \(inf\)"),
        (Point(1, float("-inf")), "Point"),
        (object(), "builtins.object cannot be stored"),
        ([Item], "type"),
        ({(1, 2): 3}, "keys must be"),
        ({1: "a", "1": "b"}, "the keys 1 and '1', which are the same in JSON"),
        ({"1": "a", 1: "b"}, "the keys '1' and 1, which are the same in JSON"),
        ([{"x": ({True: 1, "true": 2},)}], "the keys True and 'true'"),
        ({None: 1, "null": 2}, "the keys None and 'null'"),
        ({1.5: 1, "1.5": 2}, "the keys 1.5 and '1.5'"),
        ({Level.HIGH: 1, "3": 2}, "the keys <Level.HIGH: 3> and '3'"),
        (Shelf({1: "a", "1": "b"}), "the keys 1 and '1'"),
        ({UUID(int=1): 1, str(UUID(int=1)): 2}, "which are the same in JSON"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_named(value: Any, message: str) -> None:
    with pytest.raises(SerializationError, match=message):
        CODEC.serialize(value)


def test_keys_that_are_no_text_are_stored_as_it_if_no_two_become_one() -> None:
    shared = {1: "a", 2: "b"}
    value = {"places": [shared, shared, {True, 5}], "2": Shelf({Colour.RED: 1.5})}
    assert CODEC.deserialize(CODEC.serialize(value)) == {
        "places": [{"1": "a", "2": "b"}, {"1": "a", "2": "b"}, [5, True]],
        "2": {"places": {"red": 1.5}},
    }
    assert CODEC.serialize({"note": '"1":', "1": 2}) == json.dumps(
        {"note": '"1":', "1": 2}, separators=(",", ":")
    )


def test_circles_and_great_depth_are_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(SerializationError, match="Circular"):
        CODEC.serialize(circle)
    with pytest.raises(SerializationError):
        CODEC.serialize({UUID(int=1): circle, "again": [circle, circle]})
    with pytest.raises(SerializationError, match=r"recursion|nesting"):
        CODEC.deserialize("[" * 200_000)


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("{", None, "not JSON"),
        ('{"name":"a"}', Item, "does not fit Item: .*at"),
        ('["a"]', list[int], r"list\[int\]"),
        ("{}", Money, "does not fit Money: 'cents'"),
        ("5", Money, "does not fit Money: TypeError"),
        ('{"size":"many"}', Model, "does not fit Model"),
        ('[{"size":"many"}]', list[Model], "does not fit"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused(text: str, target: Any, message: str) -> None:
    with pytest.raises(SerializationError, match=message):
        CODEC.deserialize(text, target)


class Sized(Protocol):
    size: int


class Unknown:
    """A class with no way to build it from JSON."""


T = TypeVar("T")


@pytest.mark.parametrize(
    "target", [None, Any, object, int, str, Unknown, list[Unknown], Sized, T, Callable[[], int], Item | Point]
)
def test_unknown_annotations_hand_the_json_over(target: Any) -> None:
    assert CODEC.deserialize('[{"a":1}]', target) == [{"a": 1}]


def test_annotations_are_found_on_functions_and_looked_through() -> None:
    async def activity(ctx: Any, order: Order) -> Item: ...

    def flow(ctx: Any, order: Order) -> Iterator[int]: ...

    def unresolvable(ctx: Any, x: Missing) -> Absent: ...  # noqa: F821 # pyright: ignore[reportUndefinedVariable, reportUnknownParameterType]

    def nothing() -> None: ...

    def many(*values: int) -> int: ...

    class Callee:
        __hash__ = None  # pyright: ignore[reportAssignmentType]

        def __call__(self, ctx: Any, value: int) -> Point: ...

    assert signature_of(activity)[:4] == (2, Any, Order, Item)
    assert signature_of(flow).second is Order
    assert signature_of(cast(Any, unresolvable))[:4] == (2, None, None, None)
    assert signature_of(nothing)[:4] == (0, None, None, None)
    assert signature_of(many).positional is None
    assert signature_of(Callee()).result is None or signature_of(Callee()).positional == 2
    assert signature_of(type).positional in (None, 1, 2, 3)


def test_a_converter_is_one_of_ours_or_the_default() -> None:
    assert checked_converter(CODEC) is CODEC
    assert isinstance(checked_converter(None), JsonDataConverter)
    with pytest.raises(ArgumentTypeError, match="subclass of DataConverter, not ABCMeta"):
        checked_converter(JsonDataConverter)

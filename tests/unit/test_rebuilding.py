"""Types msgspec does not check in one go, and those of pydantic and attrs: each comes back as it was."""

from __future__ import annotations

import collections
import dataclasses
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NamedTuple, Protocol, Required, TypedDict, TypeVar
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from durabletask_azure.core.codec import JsonDataConverter
from durabletask_azure.errors import SerializationError

CODEC = JsonDataConverter()
NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
T = TypeVar("T")


class Rate(Enum):
    LOW = 1.5
    HIGH = 2.5


class Mixed(Enum):
    ONE = 1
    TWO = "two"
    DAY = date(2026, 1, 1)
    PAIR = (1, 2)


@dataclasses.dataclass
class Cat:
    lives: int


class Seen(NamedTuple):
    rate: Rate
    times: int


class Both(TypedDict):
    rate: Rate
    pet: Required[Cat]


@dataclasses.dataclass
class Dog:
    name: str
    rate: Rate = Rate.LOW
    made: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass
class Owner:
    pet: Cat | Dog
    rates: list[Rate]
    by_day: dict[str, Cat | Dog]
    one: tuple[Rate, int] = (Rate.LOW, 0)
    many: tuple[Rate, ...] = ()
    kinds: set[Mixed] = dataclasses.field(default_factory=set[Mixed])
    maybe: Cat | Dog | None = None
    key: dataclasses.InitVar[int] = 0
    note: Annotated[Rate | None, "it"] = None


@dataclasses.dataclass
class Pair:
    left: int
    right: int


@attrs.define
class Hidden:
    _secret: int
    shown: int = 1
    made: int = attrs.field(init=False, default=0)


@attrs.define
class Price:
    amount: Decimal
    at: datetime
    rate: Rate = Rate.LOW
    hidden: Hidden | None = None


class Tagged(msgspec.Struct, tag=True):
    rate: Rate
    rates: set[Rate] = set()


class Tray(msgspec.Struct, rename="camel"):
    maker: str
    rate_kinds: frozenset[Rate] = frozenset()


@attrs.define
class Shelf:
    rates: set[Rate]
    trays: list[Tray] = attrs.field(factory=list[Tray])


class Line(pydantic.BaseModel):
    price: Decimal
    at: datetime
    tags: set[str] = pydantic.Field(default=set(), alias="tagNames")


class Kind(pydantic.BaseModel):
    kind: Literal["kind"] = "kind"
    one: int = pydantic.Field(validation_alias="in_one", serialization_alias="out_one")


KIND = Kind.model_validate({"in_one": 5})


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        strict=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64"
    )
    raw: bytes
    day: date
    lines: tuple[Line, ...] = ()

    @pydantic.computed_field
    @property
    def size(self) -> int:
        return len(self.raw)


class Generic1(pydantic.BaseModel, Generic[T]):
    value: T


class Numbers(pydantic.RootModel[list[int]]): ...


class Bytes(pydantic.BaseModel):
    raw: bytes


LINE = Line(price=Decimal("1.10"), at=NOW, tagNames={"b", "a"})
OWNER = Owner(
    pet=Dog("Rex", Rate.HIGH),
    rates=[Rate.HIGH],
    by_day={"a": Cat(9), "b": Dog("Bo")},
    one=(Rate.HIGH, 1),
    many=(Rate.LOW, Rate.HIGH),
    kinds={Mixed.ONE, Mixed.PAIR},
    note=Rate.LOW,
)
CASES: list[tuple[Any, Any]] = [
    *((member, Mixed) for member in Mixed),
    (Rate.LOW, Rate),
    (Seen(Rate.LOW, 5), Seen),
    ({"rate": Rate.LOW, "pet": Cat(1)}, Both),
    (Rate.LOW, Annotated[Rate, "it"]),
    (OWNER, Owner),
    (dataclasses.replace(OWNER, maybe=Cat(1), key=0), Owner),
    (Cat(3), Cat | Dog),
    (None, Cat | Dog),
    ([Dog("a"), Cat(2)], list[Cat | Dog]),
    ((Rate.LOW, "a"), tuple[Rate, str]),
    (frozenset({Rate.LOW}), frozenset[Rate]),
    (Price(Decimal("1.100"), NOW, Rate.HIGH, Hidden(5)), Price),
    (Hidden(5, 2), Hidden),
    ([Hidden(5)], list[Hidden]),
    (LINE, Line),
    ({"a": [LINE]}, dict[str, list[Line]]),
    (KIND, Kind),
    (KIND, Line | Kind),
    (KIND, Kind | None),
    (Strict(raw=b"\xff\x00", day=date(2026, 1, 2), lines=(LINE,)), Strict),
    (Generic1[int](value=5), Generic1[int]),
    (Numbers([1, 2]), Numbers),
    ({UUID(int=1): Cat(1)}, dict[UUID, Cat]),
    ({NOW: LINE}, dict[datetime, Line]),
    ({Rate.LOW: 1}, dict[Rate, int]),
    (NOW, datetime | str),
    (Shelf({Rate.LOW, Rate.HIGH}), Shelf),
    ([Tray(maker="a", rate_kinds=frozenset(Rate))], list[Tray]),
    ("2026", datetime | str),
]


@pytest.mark.parametrize(("value", "kind"), CASES)
def test_it_comes_back(value: Any, kind: Any) -> None:
    back = CODEC.deserialize(CODEC.serialize(value), kind)
    assert back == value
    assert type(back) is type(value)


WRONG: list[tuple[Any, Any, str]] = [
    (3.5, Rate, "does not fit Rate: 3.5 is none of the values of Rate"),
    ([3.5], list[Rate], "3.5 is none of the values of Rate"),
    ({"pet": {}}, Owner, "does not fit Owner: Owner.__init__.. missing 2 required"),
    ({"name": "a", "rate": 9}, Dog, "does not fit Dog: a payload does not fit Rate: 9 is none"),
    ([1.5], tuple[Rate, int], "2 values are wanted, not 1"),
    ({"price": "x", "at": 5}, Line, "does not fit Line: 1 validation error for Line\nprice"),
]


@pytest.mark.parametrize(("value", "kind", "message"), WRONG)
def test_what_does_not_fit_is_an_error(value: Any, kind: Any, message: str) -> None:
    with pytest.raises(SerializationError, match=message):
        CODEC.deserialize(CODEC.serialize(value), kind)


class Callback(Protocol):
    value: int


class Odd:
    """Not a class that says what it is made from."""

    def __init__(self, rate: Rate | Cat) -> None: ...


UNKNOWN: list[tuple[Any, Any]] = [
    ({"value": 1}, Callback),
    ({"rate": 1}, Odd),
    ({"a": 1}, Cat | Dog),
    ({"name": "a", "more": 1}, Cat | Dog),
    ({"rate": 1.5}, Tagged),
    (5, Cat | Dog),
    ([1], dict[str, Rate]),
    ({"a": 1}, list[Rate]),
    (5, Owner),
    ([1], collections.deque[Rate]),
]


@pytest.mark.parametrize(("value", "kind"), UNKNOWN)
def test_what_cannot_be_checked_is_the_json_value(value: Any, kind: Any) -> None:
    assert CODEC.deserialize(CODEC.serialize(value), kind) == value


def test_bytes_that_are_no_text_need_a_model_that_says_how_to_write_them() -> None:
    with pytest.raises(
        SerializationError, match="a value of type Bytes cannot be stored: UnicodeDecodeError"
    ):
        CODEC.serialize(Bytes(raw=b"\xff"))


def test_what_cannot_be_stored_inside_something_else_is_refused() -> None:
    class Row(msgspec.Struct, array_like=True):
        rates: set[Rate]

    for value in (Tagged(Rate.LOW, set(Rate)), Row(set(Rate)), Price(object(), NOW), Pair(object(), 1)):  # pyright: ignore[reportArgumentType]
        with pytest.raises(SerializationError, match="cannot be stored"):
            CODEC.serialize(value)


def test_a_struct_of_msgspec_comes_back() -> None:
    class Item(msgspec.Struct, rename="camel", tag=True):
        unit_price: Decimal
        raw: bytes

    item = Item(Decimal("1.5"), b"\xff")
    assert CODEC.deserialize(CODEC.serialize(item), Item) == item


@dataclasses.dataclass
class Tariff:
    cents: int

    def to_json(self) -> int:
        return self.cents

    @classmethod
    def from_json(cls, value: int) -> Tariff:
        return cls(value)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([Tariff(1), Tariff(2)], list[Tariff]),
        ({"a": [Tariff(3)]}, dict[str, list[Tariff]]),
        (Tariff(4), Tariff | None),
        (None, Tariff | None),
    ],
)
def test_a_class_with_hooks_comes_back_from_inside_others(value: Any, kind: Any) -> None:
    assert CODEC.deserialize(CODEC.serialize(value), kind) == value


@attrs.define
class Veiled:
    _inside: int = 0


@attrs.define
class Plain:
    inside: int = 0


@dataclasses.dataclass
class Holder:
    held: Veiled | Plain


def test_a_private_attribute_that_would_be_left_out_is_an_error() -> None:
    with pytest.raises(SerializationError, match="private attribute '_inside'"):
        CODEC.serialize(Holder(Veiled(5)))
    assert CODEC.serialize(Holder(Plain(5))) == '{"held":{"inside":5}}'

"""B116: values come back as what annotations say, wherever a value goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, TypedDict, get_origin
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from durabletask_azure import ActivityContext, OrchestrationContext
from tests.behaviours.stage import Stage

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Rate(Enum):
    LOW = 1.5


class Address(TypedDict):
    street: str
    since: datetime


@dataclass
class Item:
    name: str
    price: Decimal
    colours: frozenset[Colour] = frozenset()


@dataclass
class Card:
    number: str


@dataclass
class Invoice:
    number: str
    due: datetime


class Order(pydantic.BaseModel):
    items: list[Item]
    at: datetime
    note: str | None = pydantic.Field(default=None, alias="remark")


class Packed(msgspec.Struct):
    id: UUID
    raw: bytes
    item: Item | None = None


@attrs.define
class Parcel:
    id: UUID
    weight: Decimal
    _seal: int = 0


ITEM = Item("lamp", Decimal("19.90"), frozenset(Colour))
ORDER = Order(items=[ITEM], at=NOW, remark="soon")
CASES: list[tuple[str, Any, Any]] = [
    ("dataclass", ITEM, Item),
    ("TypedDict", {"street": "Elm", "since": NOW}, Address),
    ("Enum", Colour.BLUE, Colour),
    ("Enum of other values", Rate.LOW, Rate),
    ("datetime", NOW, datetime),
    ("timedelta", timedelta(days=1, microseconds=1), timedelta),
    ("UUID", UUID(int=7), UUID),
    ("Decimal", Decimal("1.100"), Decimal),
    ("bytes", b"\xff\x00", bytes),
    ("pydantic model", ORDER, Order),
    ("msgspec Struct", Packed(UUID(int=1), b"\xff", ITEM), Packed),
    ("attrs class", Parcel(UUID(int=2), Decimal("0.5"), 9), Parcel),
    ("list of models", [ORDER, ORDER], list[Order]),
    ("dict of enums", {UUID(int=3): Colour.RED}, dict[UUID, Colour]),
    ("tuple", (ITEM, NOW), tuple[Item, datetime]),
    ("one of two", Invoice("5", NOW), Card | Invoice),
    ("perhaps", ORDER, Order | None),
]


def expecting(
    kind: Any, told: list[Any]
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Return an activity, a child and a flow that declare one type, and note what they are given."""

    def activity(ctx: ActivityContext, value: Any) -> Any:
        told.append(value)
        return value

    async def child(ctx: OrchestrationContext, value: Any) -> Any:
        told.append(value)
        return value

    async def flow(ctx: OrchestrationContext, value: Any) -> Any:
        ctx.set_custom_status(value)
        event = await ctx.wait_for_external_event("event", data_type=kind)
        results = [
            await ctx.call_activity(activity, input=value),
            await ctx.call_activity("activity", input=value, return_type=kind),
            await ctx.call_sub_orchestrator(child, input=event),
        ]
        told.extend([value, event, *results])
        return event

    for function in (activity, child, flow):
        function.__annotations__ = {"value": kind, "return": kind}
    return activity, child, flow


@pytest.mark.parametrize(("value", "kind"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_b116_values_come_back_by_annotation(stage: Stage, value: Any, kind: Any) -> None:
    told: list[Any] = []
    activity, child, flow = expecting(kind, told)
    stage.worker(flow, child, activities=[activity])
    instance = stage.client.schedule_new_orchestration(flow, input=value, raise_event=("event", value))
    stage.completed(instance)
    state = stage.state(instance)
    given = [state.get_input(kind), state.get_output(kind), state.get_custom_status(kind)]
    assert told + given == [value] * 11
    assert {type(one) for one in told + given} == {type(value)}
    if get_origin(kind) is list:
        assert {type(one[0]) for one in told + given} == {Order}

"""What a converter of one's own has to do, and what it may leave to its base class."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Literal

import pytest

from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.errors import SerializationError
from durabletask_azure.serialization import DEFAULT_DATA_CONVERTER, DataConverter, JsonDataConverter
from tests.unit.play import Play


@dataclass
class Item:
    name: str
    at: datetime


class Amount:
    """Rebuilds what is in it with the converter it is given."""

    def __init__(self, item: Item) -> None:
        self.item = item

    @staticmethod
    def to_json(amount: Amount) -> Any:
        return {"item": amount.item}

    @classmethod
    def from_json(cls, value: Any, converter: DataConverter) -> Amount:
        return cls(converter.coerce(value["item"], Item))


class Odd:
    """Its hook cannot be looked at, and takes the value alone."""

    from_json: ClassVar[type[dict[str, Any]]] = dict


class Plain(DataConverter):
    """Plain JSON that notes the types it is asked for; it claims those it is told to."""

    def __init__(self, *claimed: Any) -> None:
        self.claimed = claimed
        self.asked: list[Any] = []

    def serialize(self, value: Any) -> str | None:
        return None if value is None else json.dumps(value, default=str)

    def deserialize(self, data: str | None, target_type: Any = None) -> Any:
        self.asked.append(target_type)
        return None if data is None else json.loads(data)


class Claiming(Plain):
    def can_reconstruct(self, target_type: Any) -> bool:
        return target_type in self.claimed


NOW = datetime(2026, 1, 2, 3, tzinfo=UTC)


def test_coerce_rebuilds_a_value_that_is_parsed_already() -> None:
    converter = JsonDataConverter()
    item = Item("a", NOW)
    assert converter.coerce({"name": "a", "at": "2026-01-02T03:00:00Z"}, Item) == item
    assert converter.coerce(item, Item) is item
    assert converter.coerce([1], list[int]) == [1]
    for target in (None, Any, dict, str):
        assert converter.coerce({"a": 1}, target) == {"a": 1}
    assert converter.coerce(None, Item) is None
    with pytest.raises(SerializationError, match="does not fit Item"):
        converter.coerce({}, Item)


def test_coerce_of_the_base_class_goes_by_way_of_text() -> None:
    converter = Plain()
    assert converter.coerce(NOW) is NOW
    assert converter.coerce(NOW, datetime) == str(NOW)
    assert converter.asked == [datetime]


def test_the_json_converter_claims_every_type_that_is_not_plain_json() -> None:
    claimed = DEFAULT_DATA_CONVERTER.can_reconstruct
    assert [claimed(kind) for kind in (None, Any, object, str, int, float, bool, dict, list)] == [False] * 9
    unhashable = Annotated[int, ["no", "hash"]]
    assert all(claimed(kind) for kind in (Item, list[Item], Item | None, Literal["a"], datetime, unhashable))
    assert DEFAULT_DATA_CONVERTER.deserialize("3", unhashable) == 3
    assert Plain().can_reconstruct(Item) is False


def test_a_hook_may_ask_for_the_converter() -> None:
    text = DEFAULT_DATA_CONVERTER.serialize([Amount(Item("a", NOW))])
    assert text == '[{"item":{"name":"a","at":"2026-01-02T03:00:00Z"}}]'
    (amount,) = DEFAULT_DATA_CONVERTER.deserialize(text, list[Amount])
    assert isinstance(amount, Amount)
    assert amount.item == Item("a", NOW)
    assert DEFAULT_DATA_CONVERTER.deserialize('{"a":1}', Odd) == {"a": 1}


def test_a_simple_namespace_is_stored_like_a_dictionary() -> None:
    value = SimpleNamespace(a=1, b=SimpleNamespace(c=[2]))
    assert DEFAULT_DATA_CONVERTER.serialize(value) == '{"a":1,"b":{"c":[2]}}'

    @dataclass
    class Holder:
        inside: SimpleNamespace

    assert DEFAULT_DATA_CONVERTER.serialize(Holder(value)) == '{"inside":{"a":1,"b":{"c":[2]}}}'


def test_empty_text_is_no_payload() -> None:
    assert DEFAULT_DATA_CONVERTER.deserialize("") is None
    assert DEFAULT_DATA_CONVERTER.deserialize("", Item) is None


def found(ctx: Any, item: Item) -> Item:
    return item


async def flow(ctx: Any, item: Item) -> Any:
    await ctx.call_activity(found)
    await ctx.call_activity(found, return_type=datetime)
    return await ctx.wait_for_external_event("e", data_type=Item)


@pytest.mark.parametrize(("converter", "annotated"), [(Plain(), None), (Claiming(Item), Item)])
def test_annotations_count_only_if_the_converter_claims_them_and_named_types_always(
    converter: Plain, annotated: Any
) -> None:
    play = Play(flow, {"name": "a"}, options=RuntimeOptions(codec=converter))
    play.start()
    play.turn(play.completed(1, 1))
    play.turn(play.completed(2, 2))
    play.turn(play.raised("e", 3))
    assert play.result == 3
    # Each turn is played warm and cold: the input, the first result, the second, the event.
    assert list(dict.fromkeys(converter.asked)) == list(dict.fromkeys([annotated, annotated, datetime, Item]))

"""Programs about values and types on their way, and about what is kept of errors."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace
from typing import Any

from tests.parity.book import Run, program
from tests.parity.sides import Side, Steps


class Colour(Enum):
    """An enumeration of texts."""

    RED = "red"


@dataclass
class Part:
    """Of an order."""

    name: str
    count: int = 1


@dataclass
class Order:
    """A value with values in it."""

    id: str
    parts: list[Part] = field(default_factory=list[Part])
    note: str | None = None


class Money:
    """A class with hooks of its own."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    def to_json(self) -> Any:
        """Return what is stored."""
        return {"cents": self.cents}

    @classmethod
    def from_json(cls, value: Any) -> Money:
        """Return the value of what was stored."""
        return cls(value["cents"])


class Purse:
    """A class whose hook rebuilds its parts by the converter."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts

    def to_json(self) -> Any:
        """Return what is stored."""
        return {"parts": self.parts}

    @classmethod
    def from_json(cls, value: Any, converter: Any) -> Purse:
        """Return the value of what was stored."""
        return cls(converter.coerce(value["parts"], list[Part]))


@program
def plain_values(side: Side) -> Run:
    def echo(ctx: Any, value: Any) -> Any:
        return value

    def flow(ctx: Any, values: list[Any]) -> Steps:
        found: list[Any] = []
        for value in values:
            found.append((yield ctx.call_activity(echo, input=value)))
        return found

    side.add(flow, activities=[echo])
    values = [0, 1.5, "", "ünïcödé 🚲", False, True, [], {}, [None, 1], {"a": {"b": [1, 2]}}, -(2**60)]
    return lambda: side.run(flow, values)


@program
def dataclasses_by_annotation(side: Side) -> Run:
    def pack(ctx: Any, order: Order) -> Part:
        assert isinstance(order, Order)
        assert all(isinstance(part, Part) for part in order.parts)
        return order.parts[0]

    def flow(ctx: Any, order: Order) -> Steps:
        assert isinstance(order, Order)
        part = yield ctx.call_activity(pack, input=order)
        assert isinstance(part, Part)
        again = yield ctx.call_activity(side.api.task.get_name(pack), input=order, return_type=Part)
        raw = yield ctx.call_activity(side.api.task.get_name(pack), input=order)
        assert again == part
        return [order, part, raw]

    def run() -> Any:
        state = side.end(side.start(flow, Order("o1", [Part("wheel", 2), Part("bell")])))
        order = state.get_input(Order)
        assert isinstance(order, Order)
        return [state.get_output(), order.parts[0].count, order.note]

    side.add(flow, activities=[pack])
    return run


@program
def lists_and_optionals_by_annotation(side: Side) -> Run:
    def total(ctx: Any, parts: list[Part]) -> list[Part]:
        return [Part("all", sum(part.count for part in parts))]

    def maybe(ctx: Any, part: Part | None) -> Part | None:
        return part

    def flow(ctx: Any, _: Any) -> Steps:
        parts = yield ctx.call_activity(total, input=[Part("a", 2), Part("b", 3)])
        some = yield ctx.call_activity(maybe, input=parts[0])
        none = yield ctx.call_activity(maybe)
        return [parts[0].count, some.name, none]

    side.add(flow, activities=[total, maybe])
    return lambda: side.run(flow)


@program
def classes_with_hooks(side: Side) -> Run:
    def double(ctx: Any, money: Money) -> Money:
        return Money(money.cents * 2)

    def open_purse(ctx: Any, purse: Purse) -> int:
        return sum(part.count for part in purse.parts)

    def flow(ctx: Any, money: Money) -> Steps:
        twice = yield ctx.call_activity(double, input=money)
        count = yield ctx.call_activity(open_purse, input=Purse([Part("a", 2), Part("b", 5)]))
        return [twice, count]

    side.add(flow, activities=[double, open_purse])
    return lambda: side.run(flow, Money(7))


@program
def enumerations_and_namespaces(side: Side) -> Run:
    def look(ctx: Any, value: Any) -> Any:
        return value

    def flow(ctx: Any, _: Any) -> Steps:
        colour = yield ctx.call_activity(look, input=Colour.RED, return_type=Colour)
        assert colour is Colour.RED
        return (yield ctx.call_activity(look, input=SimpleNamespace(a=1, b=SimpleNamespace(c=Colour.RED))))

    side.add(flow, activities=[look])
    return lambda: side.run(flow)


@program
def types_asked_for(side: Side) -> Run:
    def child(ctx: Any, _: Any) -> Any:
        return {"name": "wheel", "count": 2}

    def flow(ctx: Any, _: Any) -> Steps:
        part = yield ctx.call_sub_orchestrator(side.api.task.get_name(child), return_type=Part)
        ctx.set_custom_status(part)
        return [part, part]

    def run() -> Any:
        state = side.end(side.start(flow))
        return [state.get_custom_status(Part) == Part("wheel", 2), state.get_output(list[Part])[1].count]

    side.add(flow, child)
    return run


@program
def a_value_that_cannot_be_stored(side: Side) -> Run:
    def flow(ctx: Any, _: Any) -> Any:
        return object()

    def run() -> Any:
        state = side.end(side.start(flow))
        return [state.runtime_status.name, state.failure_details is not None]

    side.add(flow)
    return run


@program
def an_input_that_cannot_be_stored(side: Side) -> Run:
    def run() -> Any:
        try:
            side.start("anything", object(), instance_id=side.id("unwritten"))
        except TypeError:
            return side.status(side.id("unwritten"))

    return run


@program
def the_default_converter(side: Side) -> Run:
    def run() -> Any:
        serialization = side.api.serialization
        converter = serialization.DEFAULT_DATA_CONVERTER
        assert isinstance(converter, serialization.JsonDataConverter)
        assert isinstance(converter, serialization.DataConverter)
        order = Order("o", [Part("a")])
        text = converter.serialize(order)
        back = converter.deserialize(text, Order)
        kinds = [Part, list[Part], Part | None, Money, int, str, dict, list]
        return [
            [back == order, json.loads(text), converter.deserialize(text), converter.deserialize(data=text)],
            [converter.serialize(None), converter.deserialize(None), converter.deserialize("")],
            [
                converter.coerce({"name": "a"}, target_type=Part) == Part("a"),
                converter.coerce(order, Order) is order,
            ],
            [converter.coerce(None, Part), converter.coerce({"a": 1}), converter.coerce(value=5)],
            [converter.can_reconstruct(target_type=kind) for kind in kinds],
        ]

    return run


@program
def a_converter_of_ones_own(side: Side) -> Run:
    asked: list[str] = []

    class Encoded(side.api.serialization.DataConverter):
        """JSON in base 64."""

        def serialize(self, value: Any) -> str | None:
            return (
                None if value is None else base64.b64encode(json.dumps(value, default=vars).encode()).decode()
            )

        def deserialize(self, data: str | None, target_type: type | None = None) -> Any:
            if data is None:
                return None
            return self.coerce(json.loads(base64.b64decode(data)), target_type)

        def coerce(self, value: Any, target_type: Any = None) -> Any:
            if target_type is None or value is None:
                return value
            asked.append(target_type.__name__)
            return target_type(**value)

        def can_reconstruct(self, target_type: Any) -> bool:
            return target_type is Part

    def run() -> Any:
        def grow(ctx: Any, part: Part) -> Part:
            return Part(part.name, part.count + 1)

        def count(ctx: Any, order: Order) -> int:
            return len(order) if isinstance(order, dict) else 0  # not claimed: it arrives as it is

        def flow(ctx: Any, part: Part) -> Steps:
            grown = yield ctx.call_activity(grow, input=part)
            counted = yield ctx.call_activity(count, input=Order("o"))
            return [grown.count, counted]

        converter = Encoded()
        with side.apart() as own, own.new_worker(data_converter=converter) as worker:
            own.add(flow, activities=[grow, count], worker=worker)
            worker.start()
            client = own.new_client(data_converter=converter)
            instance_id = client.schedule_new_orchestration(flow, input=Part("a", 1))
            state = client.wait_for_orchestration_completion(instance_id, timeout=30)
            client.close()
        return [state.get_output(), state.serialized_output[:4], sorted(set(asked))]

    return run


@program
def properties_of_errors(side: Side) -> Run:
    class CardError(Exception):
        def __init__(self, message: str, code: int) -> None:
            super().__init__(message)
            self.code = code

    class Provider:
        def get_exception_properties(self, exception: Exception) -> Mapping[str, Any] | None:
            code = getattr(exception, "code", None)
            return None if code is None else {"code": code, "retry": False, "where": ["till", 3]}

    def run() -> Any:
        def pay(ctx: Any, _: Any) -> None:
            raise CardError("refused", 51)

        def flow(ctx: Any, _: Any) -> Steps:
            try:
                yield ctx.call_activity(pay)
            except side.api.task.TaskFailedError as error:
                return error.details.properties

        with side.apart() as own, own.new_worker(exception_properties_provider=Provider()) as worker:
            own.add(flow, activities=[pay], worker=worker)
            worker.start()
            return own.run(flow)["output"]

    return run


@program
def an_error_made_by_hand(side: Side) -> Run:
    def run() -> Any:
        error = side.api.task.TaskFailedError("it failed", KeyError("lamp"))
        details = error.details
        return [str(error), details.error_type, details.message, details.is_caused_by(LookupError)]

    return run

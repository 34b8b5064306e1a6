"""What a call gives back is known from what is called. Checked by the type checker, never run."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from durabletask_azure import (
    ActivityContext,
    CancellableTask,
    CompletableTask,
    OrchestrationContext,
    RetryPolicy,
    TaskActivity,
    TaskOrchestration,
    TimerTask,
    task,
)


@dataclass
class Order:
    item: str
    count: int


# ------------------------------------------------------------ activities


async def price(ctx: ActivityContext, order: Order) -> float:
    return float(order.count)


def label(ctx: ActivityContext, order: Order) -> str:
    return order.item


def stock(ctx: ActivityContext) -> dict[str, int]:
    return {}


async def refresh(ctx: ActivityContext) -> int:
    return 1


def find(ctx: ActivityContext, name: str | None) -> Order | None:
    return None if name is None else Order(name, 1)


async def forget(ctx: ActivityContext, name: str) -> None:
    del name


class Pack(TaskActivity[Order, list[str]]):
    async def run(self, ctx: ActivityContext, input: Order) -> list[str]:
        return [input.item]


class Weigh(TaskActivity[Order, int]):
    def __init__(self, unit: str) -> None:
        self.unit = unit

    def run(self, ctx: ActivityContext, input: Order) -> int:
        return input.count


class Send:
    def execute(self, ctx: ActivityContext, parcel: list[str]) -> str:
        return "".join(parcel)


class Clear:
    def run(self, ctx: ActivityContext) -> int:
        return 0


class Calculator:
    """For ``add_activities_from``: no context."""

    def total(self, numbers: list[int]) -> int:
        return sum(numbers)

    async def mean(self, numbers: list[int]) -> float:
        return sum(numbers) / len(numbers)


class Shop:
    def open_at(self, ctx: ActivityContext, day: str) -> int:
        return len(day)

    async def close_at(self, ctx: ActivityContext, day: str) -> int:
        return len(day)


def make_weigh() -> Weigh:
    return Weigh("kg")


def untyped(ctx, value):  # pyright: ignore[reportUnknownParameterType, reportMissingParameterType]
    return value  # pyright: ignore[reportUnknownVariableType]


def activities(ctx: OrchestrationContext, anything: Any, order: Order) -> None:
    assert_type(ctx.call_activity(price, input=order), CompletableTask[float])
    assert_type(ctx.call_activity(label, input=order), CompletableTask[str])
    assert_type(ctx.call_activity(stock), CompletableTask[dict[str, int]])
    assert_type(ctx.call_activity(refresh), CompletableTask[int])
    assert_type(ctx.call_activity(find), CompletableTask[Order | None])
    assert_type(ctx.call_activity(find, input="lamp"), CompletableTask[Order | None])
    assert_type(ctx.call_activity(forget, input="lamp"), CompletableTask[None])

    assert_type(ctx.call_activity(Pack, input=order), CompletableTask[list[str]])
    assert_type(ctx.call_activity(Weigh("kg"), input=order), CompletableTask[int])
    assert_type(ctx.call_activity(make_weigh, input=order), CompletableTask[int])
    assert_type(ctx.call_activity(Send, input=["lamp"]), CompletableTask[str])
    assert_type(ctx.call_activity(Send(), input=["lamp"]), CompletableTask[str])
    assert_type(ctx.call_activity(Clear), CompletableTask[int])
    assert_type(ctx.call_activity(Clear()), CompletableTask[int])
    assert_type(ctx.call_activity(Shop().open_at, input="Monday"), CompletableTask[int])
    assert_type(ctx.call_activity(Shop().close_at, input="Monday"), CompletableTask[int])
    assert_type(ctx.call_activity(Calculator().total, input=[1, 2]), CompletableTask[int])
    assert_type(ctx.call_activity(Calculator().mean, input=[1, 2]), CompletableTask[float])

    # A retry policy and tags change nothing; a type given by hand wins.
    policy = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=2)
    assert_type(ctx.call_activity(price, input=order, retry_policy=policy), CompletableTask[float])
    assert_type(ctx.call_activity(stock, tags={"a": "b"}), CompletableTask[dict[str, int]])
    assert_type(ctx.call_activity(price, input=order, return_type=int), CompletableTask[int])
    assert_type(ctx.call_activity(stock, return_type=list[str]), CompletableTask[list[str]])

    # Where nothing is known, nothing is claimed.
    assert_type(ctx.call_activity("price", input=order), CompletableTask[Any])
    assert_type(ctx.call_activity("price"), CompletableTask[Any])
    assert_type(ctx.call_activity("price", input=order, return_type=float), CompletableTask[float])
    assert_type(ctx.call_activity(anything, input=order), CompletableTask[Any])
    ctx.call_activity(untyped, input=order)  # pyright: ignore[reportUnknownArgumentType]


def from_variables(
    ctx: OrchestrationContext,
    some: Callable[..., Any],
    sync: task.Activity[str, int],
    name: str,
) -> None:
    assert_type(ctx.call_activity(some, input=1), CompletableTask[Any])
    assert_type(ctx.call_activity(sync, input="x"), CompletableTask[int])
    assert_type(ctx.call_activity(name, input=1), CompletableTask[Any])


# ------------------------------------------------------------ sub-orchestrations


async def ship(ctx: OrchestrationContext, order: Order) -> str:
    parcel = await ctx.call_activity(Pack, input=order)
    assert_type(parcel, list[str])
    return "".join(parcel)


def bill(ctx: OrchestrationContext, order: Order) -> Generator[task.Task[Any], Any, float]:
    total: float = yield ctx.call_activity(price, input=order)
    return total


def plain(ctx: OrchestrationContext, order: Order) -> int:
    return order.count


async def nightly(ctx: OrchestrationContext) -> None:
    await ctx.call_activity(stock)


class Refund(TaskOrchestration[Order, bool]):
    async def run(self, ctx: OrchestrationContext, input: Order) -> bool:
        return True


class Recall(TaskOrchestration[Order, bytes]):
    def run(self, ctx: OrchestrationContext, input: Order) -> Generator[task.Task[Any], Any, bytes]:
        yield ctx.create_timer(timedelta(days=1))
        return b""


def make_refund() -> Refund:
    return Refund()


def children(ctx: OrchestrationContext, order: Order) -> None:
    assert_type(ctx.call_sub_orchestrator(ship, input=order), CompletableTask[str])
    assert_type(ctx.call_sub_orchestrator(bill, input=order), CompletableTask[float])
    assert_type(ctx.call_sub_orchestrator(plain, input=order, instance_id="p"), CompletableTask[int])
    assert_type(ctx.call_sub_orchestrator(nightly), CompletableTask[None])
    assert_type(ctx.call_sub_orchestrator(Refund, input=order), CompletableTask[bool])
    assert_type(ctx.call_sub_orchestrator(Recall, input=order), CompletableTask[bytes])
    assert_type(ctx.call_sub_orchestrator(Refund(), input=order, version="2"), CompletableTask[bool])
    assert_type(ctx.call_sub_orchestrator(make_refund, input=order), CompletableTask[bool])
    assert_type(ctx.call_sub_orchestrator("ship", input=order), CompletableTask[Any])
    assert_type(ctx.call_sub_orchestrator("ship", return_type=str), CompletableTask[str])
    assert_type(ctx.call_sub_orchestrator(ship, input=order, return_type=bytes), CompletableTask[bytes])


# ------------------------------------------------------------ waiting


async def waiting(ctx: OrchestrationContext, order: Order) -> None:
    assert_type(await ctx.call_activity(label, input=order), str)
    assert_type(ctx.call_activity(label, input=order).get_result(), str)
    assert_type(ctx.call_activity(label, input=order).result, str)

    assert_type(ctx.wait_for_external_event("paid", data_type=Order), CancellableTask[Order])
    assert_type(ctx.wait_for_external_event("paid", data_type=list[int]), CancellableTask[list[int]])
    assert_type(ctx.wait_for_external_event("paid"), CancellableTask[Any])
    assert_type(await ctx.wait_for_external_event("paid", data_type=Order), Order)
    assert_type(ctx.create_timer(timedelta(1)), TimerTask)
    assert_type(await ctx.create_timer(timedelta(1)), None)

    labels = [ctx.call_activity(label, input=order) for _ in range(3)]
    assert_type(await task.when_all(labels), list[str])
    assert_type(task.when_all(labels), task.WhenAllTask[str])
    winner = await task.when_any(labels)
    assert_type(winner, task.Task[str])
    assert_type(winner.get_result(), str)

    first = ctx.call_activity(label, input=order)
    second = ctx.call_activity(price, input=order)
    assert_type(await task.when_all([first, second]), list[str | float])
    paid = ctx.wait_for_external_event("paid", data_type=Order)
    either = await task.when_any([paid, ctx.create_timer(timedelta(days=1))])
    assert_type(either, task.Task[Order | None])
    if either is paid:
        assert_type(paid.get_result(), Order)

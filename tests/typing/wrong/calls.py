"""Mistakes in calls, each found by the type checker. Never run; what is to be found stands behind each line."""

from __future__ import annotations

from typing import Any

from durabletask_azure import (
    AsyncTaskHubClient,
    OrchestrationContext,
    OrchestrationState,
    TaskHubClient,
    task,
)
from tests.typing.right_calls import (
    Calculator,
    Order,
    Pack,
    Recall,
    Refund,
    Send,
    Shop,
    Weigh,
    bill,
    find,
    label,
    make_weigh,
    nightly,
    plain,
    price,
    refresh,
    ship,
    stock,
)


async def activities(ctx: OrchestrationContext, order: Order) -> None:
    ctx.call_activity(price, input="lamp")  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_activity(label, input=[order])  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_activity(label)  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_activity(stock, input=order)  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_activity(refresh, input=order)  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_activity(find, input=3)  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_activity(Weigh("kg"), input="lamp")  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_activity(make_weigh, input="lamp")  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_activity(Shop().open_at, input=1)  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_activity(Calculator().total, input=["1"])  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_activity(label, input=1, return_type=str)  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_activity(3, input=1)  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_activity(label, order)  # expect-error: reportCallIssue
    ctx.call_activity(label, input=order, retries=3)  # expect-error: reportCallIssue


def classes(ctx: OrchestrationContext) -> None:
    ctx.call_activity(Pack, input="lamp")  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_activity(Send, input=3)  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_sub_orchestrator(Refund, input=3)  # expect-error: reportArgumentType, reportCallIssue


def results(ctx: OrchestrationContext, order: Order) -> None:
    one: task.Task[int] = ctx.call_activity(label, input=order)  # expect-error: reportAssignmentType
    two: task.Task[int] = ctx.call_sub_orchestrator(ship, input=order)  # expect-error: reportAssignmentType
    del one, two


async def awaited(ctx: OrchestrationContext, order: Order) -> int:
    if order.count:
        return await ctx.call_activity(label, input=order)  # expect-error: reportReturnType
    paid = await ctx.wait_for_external_event("paid", data_type=Order)
    return paid.item  # expect-error: reportReturnType


async def children(ctx: OrchestrationContext, order: Order) -> None:
    ctx.call_sub_orchestrator(ship, input="lamp")  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_sub_orchestrator(bill, input="lamp")  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_sub_orchestrator(plain, input=None)  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_sub_orchestrator(nightly, input=order)  # expect-error: reportArgumentType, reportCallIssue
    ctx.call_sub_orchestrator(price, input=order)  # expect-error: reportArgumentType, reportCallIssue


async def together(ctx: OrchestrationContext, order: Order) -> list[int]:
    task.when_all([label])  # expect-error: reportArgumentType
    winner = await task.when_any([ctx.call_activity(label, input=order)])
    number: int = winner.get_result()  # expect-error: reportAssignmentType
    del number
    return await task.when_all([ctx.call_activity(label, input=order)])  # expect-error: reportReturnType


async def clients(
    client: TaskHubClient, other: AsyncTaskHubClient, order: Order, state: OrchestrationState
) -> Any:
    client.schedule_new_orchestration(ship, input="lamp")  # expect-error: reportArgumentType
    client.schedule_new_orchestration(Recall, input=3)  # expect-error: reportArgumentType
    client.schedule_new_orchestration(label, input=order)  # expect-error: reportArgumentType
    await other.schedule_new_orchestration(bill, input=b"")  # expect-error: reportArgumentType
    output: str = state.get_output(Order)  # expect-error: reportAssignmentType
    return output

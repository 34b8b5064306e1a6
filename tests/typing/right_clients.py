"""What a client gives back, and what it takes. Checked by the type checker, never run."""

from __future__ import annotations

from typing import Any, assert_type

from durabletask_azure import AsyncTaskHubClient, OrchestrationContext, OrchestrationState, TaskHubClient
from tests.typing.right_calls import Order, Recall, Refund, bill, make_refund, nightly, plain, ship


def start(client: TaskHubClient, order: Order, anything: Any) -> None:
    assert_type(client.schedule_new_orchestration(ship, input=order), str)
    client.schedule_new_orchestration(bill, input=order, instance_id="bill")
    client.schedule_new_orchestration(plain, input=order, tags={"a": "b"})
    client.schedule_new_orchestration(nightly)
    client.schedule_new_orchestration(Refund, input=order)
    client.schedule_new_orchestration(Recall, input=order)
    client.schedule_new_orchestration(Refund(), input=order)
    client.schedule_new_orchestration(make_refund, input=order)
    client.schedule_new_orchestration("ship", input=order)
    client.schedule_new_orchestration("ship")
    client.schedule_new_orchestration(anything, input=order)


async def start_async(client: AsyncTaskHubClient, order: Order) -> None:
    assert_type(await client.schedule_new_orchestration(ship, input=order), str)
    await client.schedule_new_orchestration(Refund, input=order)
    await client.schedule_new_orchestration("ship", input=order)
    assert_type(await client.wait_for_orchestration_completion("a"), OrchestrationState | None)


def read(state: OrchestrationState) -> None:
    assert_type(state.get_input(), Any)
    assert_type(state.get_input(Order), Order | None)
    assert_type(state.get_output(), Any)
    assert_type(state.get_output(list[Order]), list[Order] | None)
    assert_type(state.get_custom_status(str), str | None)


async def anonymous(ctx: OrchestrationContext, value: Any) -> Any:
    return value


def start_untyped(client: TaskHubClient) -> None:
    client.schedule_new_orchestration(anonymous)
    client.schedule_new_orchestration(anonymous, input=[1, "two"])

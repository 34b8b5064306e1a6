"""More orchestrators of the recorded histories. NEVER CHANGE THIS FILE either; see ``orchestrators_1.py``."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Generator
from typing import Any

from durabletask_azure import task
from tests.golden.orchestrators_1 import TICK, CardError, double, echo, flaky, refuse, text_of_size

# ---------------------------------------------------------------- children


async def child(ctx: Any, value: int) -> int:
    return await ctx.call_activity(double, input=value)


async def failing_child(ctx: Any, value: str) -> None:
    await ctx.call_activity(refuse, input=value)


async def waiting_child(ctx: Any) -> Any:
    return await ctx.wait_for_external_event("release")


async def parent(ctx: Any) -> list[Any]:
    one = await ctx.call_sub_orchestrator(child, input=1)
    two = await ctx.call_sub_orchestrator(
        "child", input=2, instance_id=f"{ctx.instance_id}-named", tags={"a": "b"}
    )
    many = await task.when_all([ctx.call_sub_orchestrator(child, input=n) for n in range(3)])
    try:
        await ctx.call_sub_orchestrator(failing_child, input="child")
    except task.TaskFailedError as error:
        many.append(error.details.error_type)
    return [one, two, *many]


def parent_generator(ctx: Any) -> Generator[Any, Any, list[Any]]:
    one = yield ctx.call_sub_orchestrator(child, input=1)
    try:
        yield ctx.call_sub_orchestrator("failing_child", input="child")
    except task.TaskFailedError as error:
        return [one, error.details.message]
    return [one]


async def parent_of_waiting(ctx: Any) -> Any:
    released = ctx.call_sub_orchestrator(waiting_child, instance_id=f"{ctx.instance_id}-child")
    ctx.send_event(f"{ctx.instance_id}-child", "release", data={"from": ctx.instance_id})
    ctx.call_sub_orchestrator(child, input=100)
    return await released


# ---------------------------------------------------------------- failures and retries


async def failing(ctx: Any, value: str) -> None:
    try:
        await ctx.call_activity(refuse, input=value)
    except task.TaskFailedError as error:
        raise CardError(f"the card of {value}") from error


async def uncaught(ctx: Any, value: str) -> None:
    await ctx.call_activity(refuse, input=value)


async def compensating(ctx: Any, value: str) -> list[Any]:
    done: list[Any] = []
    try:
        done.append(await ctx.call_activity(echo, input="booked"))
        await ctx.call_activity(refuse, input=value)
    except task.TaskFailedError as error:
        done.append(error.details.message)
    finally:
        done.append(await ctx.call_activity(echo, input="cancelled"))
    return done


RETRY = task.RetryPolicy(first_retry_interval=TICK, max_number_of_attempts=3, backoff_coefficient=2.0)


def _not_refused(details: task.FailureDetails) -> bool:
    return not details.message.startswith("refused")


async def retrying(ctx: Any, key: str) -> list[Any]:
    seen: list[Any] = [await ctx.call_activity(flaky, input=[key, 2], retry_policy=RETRY)]
    for name, policy in (
        ("refuse", RETRY),
        ("give_up", RETRY),
        (
            "refuse",
            task.RetryPolicy(
                first_retry_interval=TICK, max_number_of_attempts=9, retry_predicate=_not_refused
            ),
        ),
        (
            "refuse",
            task.RetryPolicy(
                first_retry_interval=TICK,
                max_number_of_attempts=50,
                retry_timeout=5 * TICK,
                max_retry_interval=2 * TICK,
            ),
        ),
    ):
        try:
            await ctx.call_activity(name, input=key, retry_policy=policy)
        except task.TaskFailedError as error:
            seen.append(error.details.error_type)
    try:
        await ctx.call_sub_orchestrator(failing_child, input=key, retry_policy=RETRY)
    except task.TaskFailedError as error:
        seen.append(error.details.error_type)
    return seen


def retrying_generator(ctx: Any, key: str) -> Generator[Any, Any, list[Any]]:
    seen: list[Any] = [(yield ctx.call_activity(flaky, input=[key, 1], retry_policy=RETRY))]
    try:
        yield ctx.call_activity("refuse", input=key, retry_policy=RETRY)
    except task.TaskFailedError as error:
        seen.append(error.details.message)
    return seen


async def retries_side_by_side(ctx: Any, key: str) -> list[Any]:
    return await task.when_all(
        [ctx.call_activity(flaky, input=[f"{key}{n}", n], retry_policy=RETRY) for n in range(3)]
    )


# ---------------------------------------------------------------- generations


async def counter(ctx: Any, count: int) -> int:
    count += await ctx.call_activity(echo, input=1)
    if count < 4:
        ctx.continue_as_new(count, save_events=True)
    return count


def counter_generator(ctx: Any, count: int) -> Generator[Any, Any, int]:
    count += yield ctx.call_activity(echo, input=1)
    if count < 3:
        ctx.continue_as_new(count)
    return count


async def actor(ctx: Any, total: int) -> int:
    value = await ctx.wait_for_external_event("add")
    ctx.set_custom_status(total + value)
    if total + value < 10:
        ctx.continue_as_new(total + value, save_events=True)
    return total + value


async def versioned(ctx: Any, value: int) -> list[Any]:
    if value == 0:
        ctx.continue_as_new(1, new_version="2.0")
    return [value, ctx.version]


# ---------------------------------------------------------------- ids, status, values, orders


async def identities(ctx: Any) -> list[Any]:
    first = [ctx.new_uuid(), ctx.new_uuid()]
    await ctx.call_activity(echo, input=first)
    assert [uuid.UUID(each).version for each in first] == [5, 5]
    ctx.set_custom_status({"ids": first})
    after = ctx.new_uuid()
    await ctx.create_timer(TICK)
    ctx.set_custom_status(None)
    return [*first, after, ctx.new_uuid(), ctx.execution_id, ctx.version, ctx.tags, ctx.parent_instance_id]


async def replay_branches(ctx: Any) -> int:
    logger = ctx.create_replay_safe_logger(logging.getLogger("golden"))
    for n in range(3):
        logger.info("step %d", n)
        await ctx.call_activity(echo, input=n)
    return 3


async def spilled(ctx: Any, text: str) -> list[int]:
    made = await ctx.call_activity(text_of_size, input=3000)
    event = await ctx.wait_for_external_event("large")
    ctx.set_custom_status("s" * 2000)
    back = await ctx.call_activity(echo, input=made + event)
    return [len(text), len(made), len(event), len(back)]


async def suspended(ctx: Any) -> list[Any]:
    seen: list[Any] = [await ctx.wait_for_external_event("step") for _ in range(2)]
    seen.append(await ctx.call_activity(echo, input="after"))
    return seen


async def terminated(ctx: Any) -> None:
    try:
        await ctx.wait_for_external_event("never")
    finally:
        await ctx.call_activity(echo, input="must not be scheduled")


async def late_values(ctx: Any) -> list[Any]:
    slow = ctx.call_activity(echo, input="slow")
    await ctx.create_timer(TICK)
    event = ctx.wait_for_external_event("x")
    event.cancel()
    return [await slow, event.is_cancelled]


ORCHESTRATORS: list[Any] = [
    actor,
    child,
    compensating,
    counter,
    counter_generator,
    failing,
    failing_child,
    identities,
    late_values,
    parent,
    parent_generator,
    parent_of_waiting,
    replay_branches,
    retries_side_by_side,
    retrying,
    retrying_generator,
    spilled,
    suspended,
    terminated,
    uncaught,
    versioned,
    waiting_child,
]

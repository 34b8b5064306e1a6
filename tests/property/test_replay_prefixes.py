"""Replay of every prefix of a history decides as the living execution did, however the events were batched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from durabletask_azure.core.actions import (
    Action,
    CreateTimer,
    Decision,
    Failed,
    ScheduleTask,
    StartSubOrchestration,
)
from durabletask_azure.core.composite import when_all, when_any
from durabletask_azure.core.history import HistoryEvent, OrchestratorStartedEvent
from durabletask_azure.core.replay import Execution
from durabletask_azure.core.retry import RetryPolicy
from durabletask_azure.errors import TaskFailedError
from tests.unit.play import Play, define

SECOND = timedelta(seconds=1)
RETRY = RetryPolicy(first_retry_interval=SECOND, max_number_of_attempts=3, backoff_coefficient=2.0)


async def chain(ctx: Any) -> list[Any]:
    return [await ctx.call_activity("step", input=n) for n in range(4)]


def chain_generator(ctx: Any) -> Any:
    found: list[Any] = []
    for n in range(4):
        found.append((yield ctx.call_activity("step", input=n)))
    return found


async def fan_out(ctx: Any) -> list[Any]:
    return await when_all([ctx.call_activity("part", input=n) for n in range(4)])


def fan_out_generator(ctx: Any) -> Generator[Any, Any, Any]:
    return (yield when_all([ctx.call_activity("part", input=n) for n in range(4)]))


async def race(ctx: Any) -> list[Any]:
    seen: list[Any] = []
    for _ in range(3):
        timer, event = ctx.create_timer(SECOND), ctx.wait_for_external_event("go")
        if await when_any([timer, event]) is event:
            timer.cancel()
            seen.append([event.result, ctx.new_uuid()])
        else:
            event.cancel()
            seen.append(str(ctx.current_utc_datetime))
    return seen


def race_generator(ctx: Any) -> Generator[Any, Any, Any]:
    seen: list[Any] = []
    for _ in range(3):
        timer, event = ctx.create_timer(SECOND), ctx.wait_for_external_event("go")
        winner = yield when_any([timer, event])
        if winner is event:
            timer.cancel()
            seen.append([event.result, ctx.new_uuid()])
        else:
            event.cancel()
            seen.append(str(ctx.current_utc_datetime))
    return seen


async def retrying(ctx: Any) -> list[Any]:
    seen: list[Any] = []
    for call in (
        ctx.call_activity("a", retry_policy=RETRY),
        ctx.call_sub_orchestrator("c", retry_policy=RETRY),
    ):
        try:
            seen.append(await call)
        except TaskFailedError as error:
            ctx.set_custom_status(error.details.message)
            seen.append("failed")
    return seen


def retrying_generator(ctx: Any) -> Any:
    seen: list[Any] = []
    for call in (
        ctx.call_activity("a", retry_policy=RETRY),
        ctx.call_sub_orchestrator("c", retry_policy=RETRY),
    ):
        try:
            seen.append((yield call))
        except TaskFailedError as error:
            ctx.set_custom_status(error.details.message)
            seen.append("failed")
    return seen


async def asyncio_tools(ctx: Any) -> list[Any]:
    async def guarded(n: int) -> Any:
        try:
            return await asyncio.wait_for(ctx.call_activity("a", input=n), 2)
        except (TimeoutError, TaskFailedError) as error:
            return type(error).__name__

    seen = list(await asyncio.gather(*(guarded(n) for n in range(3))))
    async with asyncio.TaskGroup() as group:
        sleeper = group.create_task(asyncio.sleep(1, "slept"))
        event = group.create_task(ctx.wait_for_external_event("go", timeout=2 * SECOND))
    return [*seen, sleeper.result(), event.result()]


async def actor(ctx: Any, count: int) -> None:
    value = await ctx.wait_for_external_event("go")
    ctx.send_event("other", "told", data=value)
    ctx.continue_as_new((count or 0) + 1, save_events=True)


TWINS = [
    (chain, chain_generator),
    (fan_out, fan_out_generator),
    (race, race_generator),
    (retrying, retrying_generator),
]
ORCHESTRATORS: list[Callable[..., Any]] = [each for pair in TWINS for each in pair] + [asyncio_tools, actor]


def answer(play: Play, action: Action, good: bool) -> list[HistoryEvent]:
    match action:
        case ScheduleTask():
            return [play.completed(action.id, action.id) if good else play.failed(action.id)]
        case StartSubOrchestration():
            return [play.child_completed(action.id, action.id) if good else play.child_failed(action.id)]
        case CreateTimer():
            return [play.fired(action.id)]
        case _:
            return []


def play_randomly(
    orchestrator: Callable[..., Any], data: st.DataObject
) -> tuple[Play, list[list[HistoryEvent]]]:
    """Play until the end or 25 turns, and return the play and each turn's new events."""
    play = Play(orchestrator)
    turns: list[list[HistoryEvent]] = []

    def turn(*events: HistoryEvent) -> None:
        turns.append([OrchestratorStartedEvent(timestamp=play.now), *events])
        play.turn(*events)

    turn(play.first)
    answered: set[int] = set()
    while play.completion is None and len(turns) < 25:
        events: list[HistoryEvent] = []
        for _ in range(data.draw(st.integers(1, 3))):
            open_actions = [action for action in play.actions if action.id not in answered]
            choice = data.draw(st.integers(0, len(open_actions) + 2))
            if choice < len(open_actions):
                answered.add(open_actions[choice].id)
                events += answer(play, open_actions[choice], data.draw(st.booleans()))
            elif choice == len(open_actions):
                events.append(play.raised("GO", len(turns)))
            elif choice == len(open_actions) + 1:
                events.append(play.suspended())
            else:
                events.append(play.resumed())
        play.wait(seconds=data.draw(st.integers(0, 2)))
        turn(*events)
    return play, turns


def untraced(decision: Decision) -> Decision:
    """Return the decision without the stack trace, which names the functions it went through."""
    if not isinstance(decision.completion, Failed):
        return decision
    plain = msgspec.structs.replace(decision.completion.failure, stack_trace=None)
    return msgspec.structs.replace(decision, completion=Failed(plain))


def decide(orchestrator: Callable[..., Any], turns: list[list[HistoryEvent]]) -> list[Decision]:
    live = Execution(define(orchestrator), Play(orchestrator).options)
    decisions = [live.run(events, {}) for events in turns]
    live.close()
    return decisions


@given(st.sampled_from(ORCHESTRATORS), st.data())
@settings(max_examples=150, deadline=None)
def test_every_prefix_decides_as_the_living_execution_did(
    orchestrator: Callable[..., Any], data: st.DataObject
) -> None:
    # Each turn of a play is compared with the same turn after a replay of all before it.
    play, turns = play_randomly(orchestrator, data)
    # And a second living execution decides the same again.
    again = decide(orchestrator, turns)
    assert tuple(action for decision in again for action in decision.actions) == tuple(play.actions)
    assert again[-1] == play.decision


@given(st.sampled_from(ORCHESTRATORS), st.data())
@settings(max_examples=100, deadline=None)
def test_batch_boundaries_do_not_matter(orchestrator: Callable[..., Any], data: st.DataObject) -> None:
    play, turns = play_randomly(orchestrator, data)
    one_by_one = decide(orchestrator, [[event] for events in turns for event in events])
    assert tuple(action for decision in one_by_one for action in decision.actions) == tuple(play.actions)
    ends = [decision.completion for decision in one_by_one if decision.completion is not None]
    assert ends[:1] == ([] if play.completion is None else [play.completion])


@given(st.sampled_from(TWINS), st.data())
@settings(max_examples=100, deadline=None)
def test_async_and_generator_twins_decide_the_same(
    twins: tuple[Callable[..., Any], Callable[..., Any]], data: st.DataObject
) -> None:
    _, turns = play_randomly(twins[0], data)
    first, second = (list(map(untraced, decide(each, turns))) for each in twins)
    assert first == second

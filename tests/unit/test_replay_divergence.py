"""Replay against other code than the history was written by: the first difference is named (B85, B86)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from durabletask_azure.core.actions import Decision, Failed
from durabletask_azure.core.replay import Execution, RuntimeOptions, execute
from tests.unit.play import Play, define

HOUR = timedelta(hours=1)


def play_once(act: Callable[[Any], Any]) -> Play:
    """Return a history in which the orchestrator did ``act`` and still waits."""

    async def flow(ctx: Any) -> None:
        act(ctx)
        await ctx.wait_for_external_event("never")

    play = Play(flow)
    play.start()
    return play


def rerun(play: Play, act: Callable[[Any], Any]) -> Decision:
    """Replay that history with code that does ``act`` instead."""

    async def flow(ctx: Any) -> None:
        act(ctx)
        await ctx.wait_for_external_event("never")

    return execute(define(flow), play.past, [play.raised("x")], options=RuntimeOptions(), loaded={})


ACTIONS: dict[str, Callable[[Any], Any]] = {
    "activity": lambda ctx: ctx.call_activity("a"),
    "other activity": lambda ctx: ctx.call_activity("b"),
    "timer": lambda ctx: ctx.create_timer(HOUR),
    "child": lambda ctx: ctx.call_sub_orchestrator("c"),
    "other child": lambda ctx: ctx.call_sub_orchestrator("d"),
    "child of its own id": lambda ctx: ctx.call_sub_orchestrator("c", instance_id="mine"),
    "event": lambda ctx: ctx.send_event("i", "e"),
    "other event": lambda ctx: ctx.send_event("i", "f"),
    "event to another": lambda ctx: ctx.send_event("j", "e"),
    "nothing": lambda ctx: None,
}
# A child whose id was explicit and now is generated still matches: generated ids are not the orchestrator's.
SAME = {("child of its own id", "child")}


@pytest.mark.parametrize("before", ACTIONS)
@pytest.mark.parametrize("after", ACTIONS)
def test_other_actions_than_recorded_fail_the_instance(before: str, after: str) -> None:
    decision = rerun(play_once(ACTIONS[before]), ACTIONS[after])
    if before == after or (before, after) in SAME:
        assert decision.completion is None
        return
    assert isinstance(decision.completion, Failed)
    assert decision.actions == ()
    failure = decision.completion.failure
    assert failure.error_type == "durabletask_azure.errors.NonDeterminismError"
    assert "expected" in failure.message
    assert "but the orchestrator" in failure.message


def test_the_message_names_event_expected_and_actual() -> None:
    decision = rerun(play_once(ACTIONS["activity"]), ACTIONS["timer"])
    assert isinstance(decision.completion, Failed)
    assert decision.completion.failure.message.startswith(
        "history event TaskScheduled #1 expected call_activity('a'), but the orchestrator did create_timer(). "
    )
    decision = rerun(play_once(ACTIONS["nothing"]), ACTIONS["event"])
    assert isinstance(decision.completion, Failed)
    assert decision.completion.failure.message.startswith(
        "the history expected no action #1, but the orchestrator did send_event('i', 'e'). "
    )


def test_later_differences_are_found_and_reported_once() -> None:
    def steps(*names: str) -> Any:
        async def flow(ctx: Any) -> None:
            for name in names:
                await ctx.call_activity(name)

        return flow

    play = Play(steps("a", "b", "c"))
    play.start()
    play.turn(play.completed(1))
    play.turn(play.completed(2))
    changed = Execution(define(steps("a", "x", "y")), RuntimeOptions())
    changed.replay(play.past, {})
    assert changed.is_finished
    decision = changed.run([play.completed(3)], {})
    assert isinstance(decision.completion, Failed)
    assert "#2 expected call_activity('b')" in decision.completion.failure.message
    assert decision.unfed == 1
    changed.close()


def test_a_rewound_history_under_another_execution_id_still_matches() -> None:
    play = play_once(ACTIONS["child"])
    play.past[1] = msgspec.structs.replace(play.first, execution_id="x9")
    assert rerun(play, ACTIONS["child"]).completion is None

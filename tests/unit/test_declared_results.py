"""What a result is rebuilt as when the call does not say: what the called thing declares."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.unit.play import Play


class Counts:
    def run(self, ctx: Any) -> set[int]:
        return {1}


class Lists:
    def execute(self, ctx: Any) -> list[timedelta]:
        return []


def make_counts() -> Counts:
    return Counts()


def make_something():
    return Counts()


def no_context() -> timedelta:
    return timedelta(1)


def test_the_result_of_a_class_an_object_or_a_factory_is_what_its_method_declares() -> None:
    async def flow(ctx: Any) -> list[str]:
        targets = [Counts, Counts(), Lists, Lists(), make_counts, make_something, no_context]
        found = [await ctx.call_activity(target) for target in targets]
        return [type(value).__name__ for value in found]

    play = Play(flow)
    play.start()
    for task_id, value in enumerate([[1], [1], ["PT1S"], ["PT1S"], [1], [1], "PT1S"], 1):
        play.turn(play.completed(task_id, value))
    assert play.result == ["set", "set", "list", "list", "set", "list", "timedelta"]

"""Programs about activities, retries, and waiting for several tasks."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

from tests.parity.book import Run, program
from tests.parity.sides import Side, Steps


@program
def nothing_at_all(side: Side) -> Run:
    def empty(ctx: Any, _: Any) -> Any:
        return None

    side.add(empty)
    return lambda: side.run(empty)


@program
def a_plain_function(side: Side) -> Run:
    def plain(ctx: Any, number: int) -> int:
        return number * 2

    side.add(plain)
    return lambda: side.run(plain, 21)


@program
def a_chain(side: Side) -> Run:
    def add_one(ctx: Any, number: int) -> int:
        return number + 1

    def chain(ctx: Any, count: int) -> Steps:
        number = 0
        for _ in range(count):
            number = yield ctx.call_activity(add_one, input=number)
        return number

    side.add(chain, activities=[add_one])
    return lambda: side.run(chain, 10)


@program
def by_name_and_without_input(side: Side) -> Run:
    def greet(ctx: Any, name: Any) -> str:
        return f"Hello {name}"

    def flow(ctx: Any, _: Any) -> Steps:
        nobody = yield ctx.call_activity(side_name(greet))
        kim = yield ctx.call_activity(side_name(greet), input="Kim")
        return [nobody, kim]

    def side_name(fn: Any) -> str:
        return side.api.task.get_name(fn)

    side.add(flow, activities=[greet])
    return lambda: side.run(side_name(flow))


@program
def what_an_activity_knows(side: Side) -> Run:
    def known(ctx: Any, _: Any) -> list[Any]:
        assert isinstance(ctx, side.api.task.ActivityContext)
        return [ctx.orchestration_id, ctx.task_id]

    def flow(ctx: Any, _: Any) -> Steps:
        first = yield ctx.call_activity(known)
        second = yield ctx.call_activity(known, tags={"a": "b"})
        return [first, second]

    side.add(flow, activities=[known])
    return lambda: side.run(flow, instance_id=side.id("known"))


@program
def a_fan_out(side: Side) -> Run:
    def square(ctx: Any, number: int) -> int:
        return number * number

    def fan(ctx: Any, count: int) -> Steps:
        tasks = [ctx.call_activity(square, input=number) for number in range(count)]
        results = yield side.api.task.when_all(tasks)
        return results

    def run() -> Any:
        seen = side.run(fan, 20)
        return {**seen, "history": sorted(seen["history"], key=str)}

    side.add(fan, activities=[square])
    return run


@program
def the_first_of_several(side: Side) -> Run:
    gate = threading.Event()

    def fast(ctx: Any, name: str) -> str:
        return f"{name} is fast"

    def slow(ctx: Any, name: str) -> str:
        gate.wait(30)
        return f"{name} is slow"

    def race(ctx: Any, _: Any) -> Steps:
        first = ctx.call_activity(slow, input="a")
        second = ctx.call_activity(fast, input="b")
        winner = yield side.api.task.when_any([first, second])
        assert winner == second
        assert winner.is_complete
        assert not first.is_complete
        return winner.get_result()

    def run() -> Any:
        seen = side.run(race)
        gate.set()
        return seen

    side.add(race, activities=[fast, slow])
    return run


@program
def groups_of_groups(side: Side) -> Run:
    def echo(ctx: Any, value: Any) -> Any:
        return value

    def flow(ctx: Any, _: Any) -> Steps:
        task = side.api.task
        shared = ctx.call_activity(echo, input="shared")
        left = task.when_all([shared, ctx.call_activity(echo, input="left")])
        right = task.when_all([ctx.call_activity(echo, input="right"), shared, shared])
        both = task.when_all([left, right])
        assert isinstance(both, task.CompositeTask)
        assert both.get_tasks() == [left, right]
        assert right.pending_tasks == 3
        found = yield both
        assert (right.pending_tasks, right.get_completed_tasks()) == (0, 3)
        winner = yield task.when_any([left, right])
        return [found, winner == left]

    side.add(flow, activities=[echo])

    def run() -> Any:
        seen = side.run(flow)
        return {**seen, "history": sorted(seen["history"], key=str)}

    return run


@program
def a_task_before_and_after(side: Side) -> Run:
    def ok(ctx: Any, _: Any) -> str:
        return "ok"

    def bad(ctx: Any, _: Any) -> None:
        raise ValueError("bad")

    def flow(ctx: Any, _: Any) -> Steps:
        task = side.api.task
        first = ctx.call_activity(ok)
        seen: list[Any] = [first.is_complete, first.is_failed, isinstance(first, task.CompletableTask)]
        for ask in (first.get_result, first.get_exception):
            try:
                ask()
            except ValueError:
                seen.append("too early")
        yield first
        seen += [first.is_complete, first.is_failed, first.result, first.get_result()]
        second = ctx.call_activity(bad)
        try:
            yield second
        except task.TaskFailedError:
            seen += [second.is_complete, second.is_failed, second.get_exception().details.message]
        return seen

    side.add(flow, activities=[ok, bad])
    return lambda: side.run(flow)


@program
def a_failure_that_is_handled(side: Side) -> Run:
    def refuse(ctx: Any, what: str) -> None:
        raise LookupError(f"no {what}")

    def flow(ctx: Any, _: Any) -> Steps:
        try:
            yield ctx.call_activity(refuse, input="lamp")
        except side.api.task.TaskFailedError as error:
            details = error.details
            assert "refuse" in details.stack_trace
            kinds = ["LookupError", LookupError, Exception, ValueError, "KeyError"]
            return [details.error_type, details.message, [details.is_caused_by(kind) for kind in kinds]]

    side.add(flow, activities=[refuse])
    return lambda: side.run(flow)


@program
def a_failure_that_is_not(side: Side) -> Run:
    def refuse(ctx: Any, what: str) -> None:
        raise LookupError(f"no {what}")

    def flow(ctx: Any, _: Any) -> Steps:
        yield ctx.call_activity(refuse, input="lamp")

    side.add(flow, activities=[refuse])
    return lambda: side.run(flow)


@program
def an_orchestrator_that_fails(side: Side) -> Run:
    def flow(ctx: Any, what: str) -> Any:
        raise RuntimeError(f"no {what}")

    def run() -> Any:
        seen = side.run(flow, "lamp", instance_id=side.id("failing"))
        state = side.client.get_orchestration_state(side.id("failing"))
        try:
            state.raise_if_failed()
        except side.api.client.OrchestrationFailedError as error:
            return [seen, str(error), error.failure_details.message]

    side.add(flow)
    return run


@program
def one_failure_among_several(side: Side) -> Run:
    def maybe(ctx: Any, number: int) -> int:
        if number == 2:
            raise ValueError("not 2")
        return number

    def flow(ctx: Any, _: Any) -> Steps:
        tasks = [ctx.call_activity(maybe, input=number) for number in range(4)]
        together = side.api.task.when_all(tasks)
        try:
            yield together
        except side.api.task.TaskFailedError as error:
            done = [task.is_complete for task in tasks]
            return [error.details.message, done, together.is_failed, together.get_completed_tasks()]

    side.add(flow, activities=[maybe])

    def run() -> Any:
        seen = side.run(flow)
        return {**seen, "history": sorted(seen["history"], key=str)}

    return run


def retrying(side: Side, attempts: int, **more: Any) -> Any:
    """Return a policy that pauses shortly."""
    return side.api.task.RetryPolicy(
        first_retry_interval=timedelta(milliseconds=5), max_number_of_attempts=attempts, **more
    )


@program
def a_retry_that_succeeds(side: Side) -> Run:
    calls: list[int] = []

    def third_time(ctx: Any, _: Any) -> str:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionError(f"attempt {len(calls)}")
        return "there"

    def flow(ctx: Any, _: Any) -> Steps:
        result = yield ctx.call_activity(third_time, retry_policy=retrying(side, 5, backoff_coefficient=1.5))
        return result

    side.add(flow, activities=[third_time])
    return lambda: [side.run(flow), len(calls)]


@program
def retries_that_run_out(side: Side) -> Run:
    calls: list[int] = []

    def never(ctx: Any, _: Any) -> str:
        calls.append(1)
        raise ConnectionError("never")

    def flow(ctx: Any, _: Any) -> Steps:
        policy = retrying(
            side, 3, max_retry_interval=timedelta(seconds=1), retry_timeout=timedelta(minutes=1)
        )
        assert (policy.max_number_of_attempts, policy.backoff_coefficient) == (3, 1.0)
        assert policy.first_retry_interval == timedelta(milliseconds=5)
        assert (policy.max_retry_interval, policy.retry_timeout) == (
            timedelta(seconds=1),
            timedelta(minutes=1),
        )
        yield ctx.call_activity(never, retry_policy=policy)

    side.add(flow, activities=[never])
    return lambda: [side.run(flow), len(calls)]


@program
def what_a_retry_policy_refuses(side: Side) -> Run:
    def run() -> Any:
        found: list[bool] = []
        second = timedelta(seconds=1)
        for wrong in (
            {"first_retry_interval": -second, "max_number_of_attempts": 1},
            {"first_retry_interval": second, "max_number_of_attempts": 0},
            {"first_retry_interval": second, "max_number_of_attempts": 1, "backoff_coefficient": 0.5},
            {"first_retry_interval": second, "max_number_of_attempts": 1, "max_retry_interval": -second},
            {"first_retry_interval": second, "max_number_of_attempts": 1, "retry_timeout": -second},
        ):
            try:
                side.api.task.RetryPolicy(**wrong)
            except ValueError:
                found.append(True)
        return found

    return run

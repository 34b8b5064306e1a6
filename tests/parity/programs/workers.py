"""Programs about what a worker takes: versions, filters; and how long its timers are."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.parity.book import Run, differing, program
from tests.parity.sides import Side, Steps


def which(ctx: Any, _: Any) -> str | None:
    return ctx.version


def strategies(side: Side, match: str | None, failure: str | None) -> Any:
    """Return the options of a worker of version 1.10."""
    module = side.api.worker
    return module.VersioningOptions(
        version="1.10",
        match_strategy=None if match is None else module.VersionMatchStrategy[match],
        failure_strategy=None if failure is None else module.VersionFailureStrategy[failure],
    )


def results_of_versions(own: Side, match: str | None, failure: str | None, *versions: str) -> list[Any]:
    """Run an orchestration in several versions on a worker of version 1.10; return outputs, and types of failures."""
    with own.new_worker() as worker:
        name = worker.add_orchestrator(which)
        worker.use_versioning(strategies(own, match, failure))
        worker.start()
        states = [own.end(own.start(name, version=version)) for version in versions]
    return [
        state.get_output() if state.failure_details is None else state.failure_details.error_type
        for state in states
    ]


@program
def versions_that_fail(side: Side) -> Run:
    def run() -> Any:
        with side.apart() as own:
            return [
                results_of_versions(own, match, "FAIL", "1.9", "1.10", "2.0")
                for match in ("NONE", "STRICT", "CURRENT_OR_OLDER")
            ]

    return run


@program
def activities_of_two_workers(side: Side) -> Run:
    def left(ctx: Any, number: int) -> str:
        return f"left {number}"

    def right(ctx: Any, number: int) -> str:
        return f"right {number}"

    def flow(ctx: Any, _: Any) -> Steps:
        tasks = [ctx.call_activity(("left", "right")[number % 2], input=number) for number in range(6)]
        results: Any = yield side.api.task.when_all(tasks)
        return results

    def run() -> Any:
        with side.apart() as own, own.new_worker() as first, own.new_worker() as second:
            name = first.add_orchestrator(flow)
            first.add_activity(left)
            second.add_activity(right)
            for worker in (first, second):
                worker.use_work_item_filters()
                worker.start()
            return own.run(name)["output"]

    return run


@program
def a_timer_in_parts(side: Side) -> Run:
    part = timedelta(seconds=1)

    def flow(ctx: Any, _: Any) -> Steps:
        yield ctx.create_timer(1.5 * part)
        return "rang"

    def run() -> Any:
        with side.apart() as own, own.new_worker(maximum_timer_interval=part) as worker:
            name = worker.add_orchestrator(flow)
            worker.start()
            instance_id = own.start(name)
            output = own.end(instance_id).get_output()
            history = own.client.get_orchestration_history(instance_id)
            parts = sum(type(event).__name__ == "TimerCreatedEvent" for event in history)
            return [output, parts > 1, worker.maximum_timer_interval == part]

    return run


@differing
def versions_without_a_strategy(side: Side) -> Run:
    def run() -> Any:
        with side.apart() as own, own.new_worker() as worker:
            name = worker.add_orchestrator(which)
            worker.use_versioning(strategies(own, None, "FAIL"))
            worker.start()
            state = own.end(own.start(name, version="3.0"))
            return [state.get_output(), state.failure_details and state.failure_details.error_type]

    return run


@differing
def orchestrations_of_two_workers(side: Side) -> Run:
    def other(ctx: Any, _: Any) -> str:
        return "done"

    def run() -> Any:
        with side.apart() as own, own.new_worker() as first, own.new_worker() as second:
            first.add_orchestrator(which)
            name = second.add_orchestrator(other)
            for worker in (first, second):
                worker.use_work_item_filters()
                worker.start()
            ended, waiting = 0, 0
            ids = [own.start(name, instance_id=own.id(str(number))) for number in range(8)]
            for instance_id in ids:

                def settled(instance_id: str = instance_id) -> bool:
                    state = own.client.get_orchestration_state(instance_id)
                    return state.runtime_status.name == "COMPLETED" or bool(
                        getattr(state, "pending_reason", None)
                    )

                own.eventually(settled)
                is_done = own.status(instance_id) == "COMPLETED"
                ended, waiting = ended + is_done, waiting + (not is_done)
            return [ended, waiting]

    return run


@differing
def long_timer(side: Side) -> Run:
    def flow(ctx: Any, _: Any) -> Steps:
        yield ctx.create_timer(timedelta(days=40))

    def timers(instance_id: str) -> list[Any]:
        history = side.client.get_orchestration_history(instance_id)
        return [event for event in history if type(event).__name__ == "TimerCreatedEvent"]

    def run() -> Any:
        instance_id = side.start(flow)
        side.eventually(lambda: bool(timers(instance_id)))
        (timer,) = timers(instance_id)
        side.client.terminate_orchestration(instance_id)
        side.end(instance_id)
        created = side.client.get_orchestration_state(instance_id).created_at
        return round((timer.fire_at.replace(tzinfo=None) - created) / timedelta(days=1))

    side.add(flow)
    return run

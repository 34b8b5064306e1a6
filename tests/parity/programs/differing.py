"""Programs that do not do the same on both sides, for the rows of ``docs/durabletask.md``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.parity.book import Run, differing
from tests.parity.programs.activities import retrying
from tests.parity.programs.values import Part
from tests.parity.sides import Side, Steps


def ended(side: Side, flow: Any, input: Any = None) -> list[Any]:
    """Run an orchestration; return status, output and failure message."""
    state = side.end(side.start(flow, input))
    failure = state.failure_details
    return [state.runtime_status.name, state.get_output(), None if failure is None else failure.message]


@differing
def ids_of_attempts(side: Side) -> Run:
    def fails(ctx: Any, _: Any) -> None:
        raise ValueError("no")

    def child(ctx: Any, _: Any) -> None:
        raise ValueError("no")

    def flow(ctx: Any, which: str) -> Steps:
        policy = retrying(side, 2)
        if which == "activity":
            yield ctx.call_activity(fails, retry_policy=policy)
        else:
            yield ctx.call_sub_orchestrator(child, retry_policy=policy)

    def attempts(which: str) -> int:
        instance_id = side.start(flow, which)
        side.end(instance_id)
        kinds = ("TaskScheduledEvent", "SubOrchestrationInstanceCreatedEvent")
        history = side.client.get_orchestration_history(instance_id)
        events = [event for event in history if type(event).__name__ in kinds]
        assert len(events) == 2
        return len({(event.event_id, getattr(event, "instance_id", "")) for event in events})

    side.add(flow, child, activities=[fails])
    return lambda: [attempts("activity"), attempts("child")]


@differing
def continued(side: Side) -> Run:
    def twice(ctx: Any, number: int | None) -> Any:
        if number is None:
            ctx.continue_as_new(1)
            ctx.continue_as_new(2)
        return number

    def raising(ctx: Any, number: int | None) -> Any:
        if number is None:
            ctx.continue_as_new(1)
            raise ValueError("after all")
        return number

    side.add(twice, raising)
    return lambda: [ended(side, twice), ended(side, raising)]


@differing
def groups(side: Side) -> Run:
    def flow(ctx: Any, _: Any) -> Any:
        task = side.api.task
        found: list[Any] = [task.when_all([]).is_complete]
        try:
            found.append(task.when_any([]).is_complete)
        except ValueError:
            found.append("refused")
        return found

    side.add(flow)
    return lambda: ended(side, flow)[1]


@differing
def yielded(side: Side) -> Run:
    def flow(ctx: Any, _: Any) -> Steps:
        yield 3

    def run() -> Any:
        instance_id = side.start(flow)
        try:
            state = side.client.wait_for_orchestration_completion(
                instance_id, timeout=30 if side.is_ours else 0.5
            )
        except TimeoutError:
            side.client.terminate_orchestration(instance_id)
            return "hangs"
        return state.failure_details.message

    side.add(flow)
    return run


@differing
def misfits(side: Side) -> Run:
    def part(ctx: Any, part: Part) -> str:
        return type(part).__name__

    def numbers(ctx: Any, numbers: list[int]) -> str:
        return repr(numbers)

    def when(ctx: Any, when: datetime) -> str:
        return type(when).__name__

    def flow(ctx: Any, _: Any) -> Steps:
        found: list[Any] = []
        for activity, value in ((part, 5), (numbers, ["x"]), (when, "2026-01-01T00:00:00")):
            try:
                found.append((yield ctx.call_activity(activity, input=value)))
            except side.api.task.TaskFailedError as error:
                found.append(error.details.message)
        return found

    side.add(flow, activities=[part, numbers, when])
    return lambda: ended(side, flow)[1]


@differing
def json_values(side: Side) -> Run:
    def flow(ctx: Any, kind: str) -> Any:
        return {"nan": [float("nan")], "set": {1}, "bytes": b"abc", "date": datetime(2026, 1, 1, tzinfo=UTC)}[
            kind
        ]

    def run() -> Any:
        statuses = [ended(side, flow, kind)[0] for kind in ("nan", "set", "bytes", "date")]
        return [statuses, side.api.serialization.DEFAULT_DATA_CONVERTER.serialize({"a": [1, 2]})]

    side.add(flow)
    return run


@differing
def failures(side: Side) -> Run:
    def fails(ctx: Any, _: Any) -> None:
        raise ValueError("no lamp")

    def flow(ctx: Any, _: Any) -> Steps:
        yield ctx.call_activity(fails)

    def run() -> Any:
        failure = side.end(side.start(flow)).failure_details
        return [failure.inner_failure.error_type, failure.error_type, failure.message]

    side.add(flow, activities=[fails])
    return run


@differing
def ids(side: Side) -> Run:
    def flow(ctx: Any, wait: bool) -> Steps:
        if wait:
            yield ctx.wait_for_external_event("go")

    def again(instance_id: str) -> str:
        try:
            side.start(flow, False, instance_id=instance_id)
        except Exception as error:
            return f"{type(error).__name__} {getattr(error, 'code', lambda: '')()}"
        return "started"

    def run() -> Any:
        alive = side.start(flow, True, instance_id=side.id("taken"))
        found = [again(alive)]
        side.client.raise_orchestration_event(alive, "go")
        side.end(alive)
        return [*found, again(alive)]

    side.add(flow)
    return run


@differing
def strangers(side: Side) -> Run:
    def run() -> Any:
        client = side.client
        found: list[Any] = []
        for call in (
            lambda: client.raise_orchestration_event(side.id("stranger"), "hello"),
            lambda: client.get_orchestration_history(side.id("stranger")),
            lambda: client.wait_for_orchestration_completion(side.id("stranger"), timeout=0.05),
        ):
            try:
                found.append(call())
            except Exception as error:
                found.append(f"{type(error).__name__} {getattr(error, 'code', lambda: '')()}".strip())
        return found

    return run


@differing
def listed(side: Side) -> Run:
    def flow(ctx: Any, _: Any) -> Any:
        return None

    def run() -> Any:
        started = [side.id(f"{number}") for number in (5, 3, 1, 4, 2)]
        for instance_id in started:
            side.end(side.start(flow, instance_id=instance_id))
        items = side.client.list_instance_ids(page_size=1000).items
        return [started, [item for item in items if item in started]]

    side.add(flow)
    return run


@differing
def backend(side: Side) -> Run:
    def child(ctx: Any, mode: str) -> Steps:
        if mode == "wait":
            yield ctx.wait_for_external_event("never")
        if mode == "fail":
            raise ValueError("no")
        return ctx.parent_instance_id is not None

    def parent(ctx: Any, mode: str) -> Steps:
        try:
            return (yield ctx.call_sub_orchestrator(child, input=mode, instance_id=side.id(mode)))
        except side.api.task.TaskFailedError as error:
            return error.details.error_type

    def run() -> Any:
        due = datetime.now(UTC) + timedelta(milliseconds=300)
        state = side.end(side.start(parent, "none", start_at=due))
        on_time = state.last_updated_at >= due.replace(tzinfo=None)
        waiting = side.start(parent, "wait")
        side.eventually(lambda: side.status(side.id("wait")) == "RUNNING")
        side.client.terminate_orchestration(waiting, recursive=True)
        side.end(waiting)
        if side.is_ours:
            side.end(side.id("wait"))
        return [on_time, state.get_output(), side.status(side.id("wait")), ended(side, parent, "fail")[1]]

    side.add(parent, child)
    return run

"""Programs about sub-orchestrations, continue-as-new, and what an orchestrator knows of itself."""

from __future__ import annotations

import logging
import uuid
from datetime import datetime, timedelta
from typing import Any

from tests.parity.book import Run, program
from tests.parity.programs.activities import retrying
from tests.parity.sides import Side, Steps


@program
def a_child(side: Side) -> Run:
    def child(ctx: Any, number: int) -> Any:
        return number * 2

    def parent(ctx: Any, number: int) -> Steps:
        assert ctx.parent_instance_id is None
        return (yield ctx.call_sub_orchestrator(child, input=number))

    side.add(parent, child)
    return lambda: side.run(parent, 4)


@program
def a_child_by_name_with_an_id_and_a_version(side: Side) -> Run:
    def child(ctx: Any, _: Any) -> Any:
        return [ctx.instance_id, ctx.version]

    def parent(ctx: Any, _: Any) -> Steps:
        name = side.api.task.get_name(child)
        return (yield ctx.call_sub_orchestrator(name, instance_id=side.id("chosen"), version="2.1"))

    side.add(parent, child)
    return lambda: [side.run(parent), side.observe(side.id("chosen"))]


@program
def a_fan_out_of_children(side: Side) -> Run:
    def child(ctx: Any, number: int) -> int:
        return number + 1

    def parent(ctx: Any, count: int) -> Steps:
        return (
            yield side.api.task.when_all([ctx.call_sub_orchestrator(child, input=n) for n in range(count)])
        )

    def run() -> Any:
        seen = side.run(parent, 5)
        return {**seen, "history": sorted(seen["history"], key=str)}

    side.add(parent, child)
    return run


@program
def a_child_that_fails(side: Side) -> Run:
    def child(ctx: Any, _: Any) -> Any:
        raise ValueError("broken child")

    def parent(ctx: Any, _: Any) -> Steps:
        task = ctx.call_sub_orchestrator(child)
        try:
            yield task
        except side.api.task.TaskFailedError as error:
            return [task.is_failed, error.details.message]

    side.add(parent, child)
    return lambda: side.run(parent)


@program
def a_child_that_fails_its_parent(side: Side) -> Run:
    def child(ctx: Any, _: Any) -> Any:
        raise ValueError("broken child")

    def parent(ctx: Any, _: Any) -> Steps:
        yield ctx.call_sub_orchestrator(child)

    def run() -> Any:
        seen = side.run(parent)
        return [seen["status"], seen["failure"][:2], seen["failure"][2][1]]

    side.add(parent, child)
    return run


@program
def a_child_that_is_tried_again(side: Side) -> Run:
    runs: list[int] = []

    def child(ctx: Any, _: Any) -> Any:
        runs.append(1)
        if len(runs) < 3:
            raise ValueError("not yet")
        return "at last"

    def parent(ctx: Any, _: Any) -> Steps:
        return (yield ctx.call_sub_orchestrator(child, retry_policy=retrying(side, 5)))

    side.add(parent, child)
    return lambda: [side.run(parent), len(runs)]


@program
def children_of_children(side: Side) -> Run:
    def nested(ctx: Any, depth: int) -> Steps:
        if depth == 0:
            return 1
        deeper = yield ctx.call_sub_orchestrator(side.api.task.get_name(nested), input=depth - 1)
        return deeper + 1

    side.add(nested)
    return lambda: side.run(nested, 3)


@program
def generations(side: Side) -> Run:
    def again(ctx: Any, number: int) -> Steps:
        yield ctx.create_timer(timedelta(0))
        if number < 5:
            ctx.continue_as_new(number + 1)
        return number

    side.add(again)
    return lambda: side.run(again, 1)


@program
def generations_with_new_versions(side: Side) -> Run:
    def again(ctx: Any, seen: list[Any]) -> Any:
        seen = [*seen, ctx.version]
        if len(seen) < 3:
            ctx.continue_as_new(seen, new_version=f"{len(seen) + 1}.0")
            return None
        return seen

    side.add(again)
    return lambda: side.run(again, [], version="1.0")


def collecting(side: Side, save_events: bool) -> Run:
    """Return a program of two generations that raises three events to the first, which waits for one."""

    def collect(ctx: Any, seen: list[Any]) -> Steps:
        if seen:
            # A second generation: what was carried over is there before the timer is.
            event = ctx.wait_for_external_event("item")
            yield side.api.task.when_any([event, ctx.create_timer(timedelta(milliseconds=200))])
            return [seen, event.get_result() if event.is_complete else None]
        first = yield ctx.wait_for_external_event("item")
        yield ctx.wait_for_external_event("last")
        ctx.continue_as_new([first], save_events=save_events)

    def run() -> Any:
        instance_id = side.start(collect, [])
        for name, data in (("item", 1), ("item", 2), ("last", None)):
            side.client.raise_orchestration_event(instance_id, name, data=data)
        side.end(instance_id)
        return side.observe(instance_id)["output"]

    side.add(collect)
    return run


@program
def events_that_go_along(side: Side) -> Run:
    return collecting(side, save_events=True)


@program
def events_that_stay_behind(side: Side) -> Run:
    return collecting(side, save_events=False)


@program
def what_an_orchestrator_knows(side: Side) -> Run:
    def step(ctx: Any, _: Any) -> None:
        return None

    def flow(ctx: Any, _: Any) -> Steps:
        assert isinstance(ctx, side.api.task.OrchestrationContext)
        before = ctx.current_utc_datetime
        assert isinstance(before, datetime)
        yield ctx.call_activity(step)
        after = ctx.current_utc_datetime
        return [ctx.instance_id, ctx.version, ctx.parent_instance_id, before <= after, before.tzinfo is None]

    side.add(flow, activities=[step])
    return lambda: side.run(flow, instance_id=side.id("knows"), version="1.2.3")


@program
def new_uuids(side: Side) -> Run:
    def step(ctx: Any, value: Any) -> Any:
        return value

    def flow(ctx: Any, _: Any) -> Steps:
        first = ctx.new_uuid()
        back = yield ctx.call_activity(step, input=first)
        others = [ctx.new_uuid(), ctx.new_uuid()]
        assert all(str(uuid.UUID(value)) == value for value in [first, *others])
        return [back == first, len({first, *others})]

    side.add(flow, activities=[step])
    return lambda: side.run(flow)["output"]


@program
def a_log_without_repetition(side: Side) -> Run:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    def step(ctx: Any, _: Any) -> None:
        return None

    def flow(ctx: Any, _: Any) -> Steps:
        logger = logging.getLogger(f"tests.parity.{side.api.package}.replay")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(Keep())
        safe = ctx.create_replay_safe_logger(logger)
        assert isinstance(safe, side.api.task.ReplaySafeLogger)
        safe.info("begin %s", 1)
        yield ctx.call_activity(step)
        safe.info("middle")
        yield ctx.call_activity(step)
        safe.warning("end")
        safe.debug("too detailed")
        return safe.isEnabledFor(logging.INFO) and not ctx.is_replaying

    side.add(flow, activities=[step])
    return lambda: [side.run(flow)["output"], lines]


@program
def a_custom_status(side: Side) -> Run:
    def flow(ctx: Any, _: Any) -> Steps:
        ctx.set_custom_status({"step": 1})
        yield ctx.wait_for_external_event("go")
        ctx.set_custom_status(["step", 2])
        return "done"

    def run() -> Any:
        instance_id = side.start(flow)
        side.eventually(lambda: (custom(instance_id) or {}) == {"step": 1})
        side.client.raise_orchestration_event(instance_id, "go")
        side.end(instance_id)
        return side.observe(instance_id)

    def custom(instance_id: str) -> Any:
        return side.client.get_orchestration_state(instance_id).get_custom_status()

    side.add(flow)
    return run

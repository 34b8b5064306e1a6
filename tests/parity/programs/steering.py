"""Programs about suspending, ending and removing instances."""

from __future__ import annotations

from typing import Any

from tests.parity.book import Run, program
from tests.parity.sides import Side, Steps


def waiting(side: Side) -> Any:
    """Return an orchestrator that waits for an event."""

    def flow(ctx: Any, _: Any) -> Steps:
        ctx.set_custom_status("waiting")
        return (yield ctx.wait_for_external_event("go"))

    side.add(flow)
    return flow


@program
def suspended_and_resumed(side: Side) -> Run:
    flow = waiting(side)

    def run() -> Any:
        client, instance_id = side.client, side.start(flow)
        client.wait_for_orchestration_start(instance_id, timeout=30)
        client.suspend_orchestration(instance_id, reason="a pause")
        side.until(instance_id, "SUSPENDED")
        client.raise_orchestration_event(instance_id, "go", data=3)
        suspended = side.status(instance_id)
        client.resume_orchestration(instance_id, reason="enough")
        side.end(instance_id)
        return [suspended, side.observe(instance_id)]

    return run


@program
def ended_from_outside(side: Side) -> Run:
    flow = waiting(side)

    def run() -> Any:
        instance_id = side.start(flow)
        side.client.wait_for_orchestration_start(instance_id, timeout=30)
        side.client.terminate_orchestration(instance_id, output={"why": "enough"})
        side.end(instance_id)
        side.client.terminate_orchestration(instance_id, output="again")
        side.client.raise_orchestration_event(instance_id, "go")
        return side.observe(instance_id)

    return run


@program
def ended_alone(side: Side) -> Run:
    flow = waiting(side)

    def parent(ctx: Any, _: Any) -> Steps:
        yield ctx.call_sub_orchestrator(flow, instance_id=side.id("child"))

    def run() -> Any:
        instance_id = side.start(parent)
        side.eventually(lambda: side.status(side.id("child")) == "RUNNING")
        side.client.terminate_orchestration(instance_id, recursive=False)
        side.end(instance_id)
        found = [side.status(instance_id), side.status(side.id("child"))]
        side.client.terminate_orchestration(side.id("child"))
        side.end(side.id("child"))
        return found

    side.add(parent)
    return run


@program
def ended_while_suspended(side: Side) -> Run:
    flow = waiting(side)

    def run() -> Any:
        instance_id = side.start(flow)
        side.client.wait_for_orchestration_start(instance_id, timeout=30)
        side.client.suspend_orchestration(instance_id)
        side.until(instance_id, "SUSPENDED")
        side.client.terminate_orchestration(instance_id)
        return side.end(instance_id).runtime_status.name

    return run


@program
def removed(side: Side) -> Run:
    flow = waiting(side)

    def run() -> Any:
        client, instance_id = side.client, side.start(flow, instance_id=side.id("removed"))
        client.wait_for_orchestration_start(instance_id, timeout=30)
        living = client.purge_orchestration(instance_id).deleted_instance_count
        client.raise_orchestration_event(instance_id, "go")
        side.end(instance_id)
        first, second = client.purge_orchestration(instance_id), client.purge_orchestration(instance_id)
        assert isinstance(first, side.api.client.PurgeInstancesResult)
        counts = [living, first.deleted_instance_count, second.deleted_instance_count]
        return [counts, first.is_complete, side.status(instance_id)]

    return run


@program
def removed_by_what_they_are(side: Side) -> Run:
    def ok(ctx: Any, _: Any) -> Any:
        return None

    def bad(ctx: Any, _: Any) -> Any:
        raise ValueError("bad")

    def run() -> Any:
        client, status = side.client, side.api.client.OrchestrationStatus
        states = [
            side.end(side.start(flow, instance_id=side.id(f"{number}")))
            for number, flow in enumerate((ok, bad, ok, bad))
        ]
        result = client.purge_orchestrations_by(
            created_time_from=states[1].created_at,
            created_time_to=states[3].created_at,
            runtime_status=[status.FAILED],
        )
        left = [side.status(state.instance_id) for state in states]
        return [result.deleted_instance_count, result.is_complete, left]

    side.add(ok, bad)
    return run

"""Messages of every kind, tasks and rows as they are stored, to be mangled."""

from __future__ import annotations

from typing import Any

import msgspec

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import (
    EventRaisedEvent,
    ExecutionResumedEvent,
    ExecutionStartedEvent,
    ExecutionSuspendedEvent,
    ExecutionTerminatedEvent,
    Handover,
    Parent,
    Sender,
    SubOrchestrationInstanceCompletedEvent,
    SubOrchestrationInstanceFailedEvent,
    TaskCompletedEvent,
    TaskFailedEvent,
    TimerFiredEvent,
)
from durabletask_azure.core.messages import (
    ActivityTask,
    ContinuedChild,
    FailInstance,
    Message,
    MessageBody,
    PurgeInstance,
    ReplaceInstance,
    ResetInstance,
    RewindInstance,
    StartInstance,
    encode_messages,
    encode_task,
)
from durabletask_azure.core.payloads import BlobRef
from tests.unit.bench import Bench, after

FAILURE = FailureDetails(
    message="bad",
    error_type="shop.CardError",
    stack_trace="line 1",
    inner_failure=FailureDetails(message="worse", error_type="KeyError"),
    properties={"code": 7},
)
REF = BlobRef("p000/victim/x/0", 40_000)


async def victim(ctx: Any, _: Any) -> Any:
    """Wait for everything there is."""
    ctx.set_custom_status("waiting")
    return [
        await task
        for task in (
            ctx.call_activity("work", input=1),
            ctx.call_activity("work", input=2),
            ctx.call_sub_orchestrator("other", instance_id="child"),
            ctx.create_timer(after(1_000)),
            ctx.wait_for_external_event("go"),
        )
    ]


async def other(ctx: Any, value: Any) -> Any:
    return value


def bodies(execution: str = "x1") -> list[MessageBody]:
    """Return a body of every kind."""
    now: dict[str, Any] = {"timestamp": after(1)}
    parent = Parent("victim", execution, 3, "victim")
    start = ExecutionStartedEvent(
        **now,
        name="other",
        instance_id="victim",
        execution_id="x2",
        version="1.0",
        input='{"a":[1]}',
        tags='{"k":"v"}',
        parent=parent,
        scheduled_start=after(60),
    )
    return [
        StartInstance(),
        FailInstance(failure=FAILURE),
        ReplaceInstance(start=start, replace=("COMPLETED", "RUNNING"), created_at=after(0)),
        PurgeInstance(recursive=True),
        RewindInstance(next_execution_id="x3", reason="again"),
        ResetInstance(next_execution_id="x4", turn=1),
        ContinuedChild(start=start, formers=("x0",), handover=Handover(rewind=True)),
        start,
        TaskCompletedEvent(**now, task_scheduled_id=1, result="[1,2]"),
        TaskCompletedEvent(**now, task_scheduled_id=2, result=REF),
        TaskFailedEvent(**now, task_scheduled_id=2, failure=FAILURE),
        SubOrchestrationInstanceCompletedEvent(**now, task_scheduled_id=3, result='"r"'),
        SubOrchestrationInstanceFailedEvent(**now, task_scheduled_id=3, failure=FAILURE),
        TimerFiredEvent(**now, timer_id=4, fire_at=after(1_000)),
        EventRaisedEvent(**now, name="go", input="5", source_id="s1", sender=Sender(0, 4)),
        ExecutionTerminatedEvent(**now, input='"over"', recurse=True, source_id="t1"),
        ExecutionSuspendedEvent(**now, input="why", source_id="u1"),
        ExecutionResumedEvent(**now, source_id="v1"),
        FailInstance(failure=FAILURE, start=start),
    ]


def packs(instance_id: str = "victim", execution: str = "x1") -> list[bytes]:
    """Return a broker message of each kind, and one with several."""
    messages = [
        Message(
            id=f"m{number}",
            instance_id=instance_id,
            body=body,
            execution_id=execution if number % 2 else None,
            sender=Sender(1, number),
            sender_sent=number,
        )
        for number, body in enumerate(bodies(execution))
    ]
    return [*(encode_messages((message,)) for message in messages), encode_messages(tuple(messages[8:14]))]


def tasks(instance_id: str = "victim", execution: str = "x1") -> list[bytes]:
    """Return activity tasks."""
    task = ActivityTask(
        id="t1",
        instance_id=instance_id,
        execution_id=execution,
        task_id=1,
        name="work",
        version="1.0",
        input='{"a":1}',
        tags='{"k":"v"}',
    )
    return [encode_task(task), encode_task(msgspec.structs.replace(task, input=REF, name="unknown"))]


def begun(**settings: Any) -> Bench:
    """Return a bench with a victim that waits, one turn on, and somebody beside it."""
    bench = Bench(victim, other, **settings)
    bench.begin("victim", {"a": 1}, id="victim")
    bench.begin("victim", {"b": 2}, id="bystander", execution="b1")
    bench.turn(
        Message(
            id="done",
            instance_id="victim",
            body=TaskCompletedEvent(timestamp=after(0), task_scheduled_id=1, result="1"),
        ),
        id="victim",
    )
    return bench

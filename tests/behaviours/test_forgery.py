"""Messages nobody sent and arguments that try something change nothing but what they are allowed to."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

import pytest

from durabletask_azure import (
    ConfigurationError,
    OrchestrationContext,
    OrchestrationQuery,
    OrchestrationStatus,
)
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import (
    EventRaisedEvent,
    SubOrchestrationInstanceCompletedEvent,
    TaskCompletedEvent,
    TaskFailedEvent,
    TimerFiredEvent,
)
from durabletask_azure.core.messages import Message, MessageBody, ToPartition
from durabletask_azure.core.payloads import BlobRef, payload_name
from tests.behaviours.stage import Stage

ODD = (
    *(
        "' OR 1=1 --",
        "a' or RowKey ge '",
        "x%27",
        "%",
        "_",
        "\\",
        "../../etc/passwd",
        "i!1",
        "lock",
        "h!x!y!0",
    ),
    *(
        "https://example.invalid/x?sig=y",
        '{"kind":"blob","name":"p000/a/b/c","size":3}',
        "~codec:k1:AAAA",
        "\u202e",
    ),
)


def say(ctx: Any, value: Any) -> Any:
    return value


async def talks(ctx: OrchestrationContext, value: Any) -> Any:
    said = await ctx.call_activity(say, input=value)
    heard = await ctx.wait_for_external_event("go")
    return [said, heard]


def waits(stage: Stage, instance_id: str) -> bool:
    """Whether an instance waits for its event."""
    return "TaskCompleted" in stage.events(instance_id)


def forge(stage: Stage, instance_id: str, body: MessageBody, execution_id: str | None) -> None:
    """Send a message as somebody with the right to send could."""
    message = Message(
        id=f"forged-{uuid.uuid4().hex}", instance_id=instance_id, body=body, execution_id=execution_id
    )
    sending = [ToPartition(partition=stage.partition(instance_id), message=message)]
    stage.hub.run(lambda: stage.hub.ports.orchestrations.send(sending))


def test_forged_messages_change_nothing(stage: Stage) -> None:
    stage.worker(talks, activities=[say])
    instance = stage.client.schedule_new_orchestration(talks, input="mine")
    stage.eventually(partial(waits, stage, instance))
    before, row = stage.events(instance), stage.existing_row(instance)
    now = row.updated_at
    known = row.execution_id
    bodies: list[MessageBody] = [
        TaskCompletedEvent(timestamp=now, task_scheduled_id=1, result='"again"'),
        TaskCompletedEvent(timestamp=now, task_scheduled_id=77, result='"never scheduled"'),
        TaskFailedEvent(
            timestamp=now, task_scheduled_id=77, failure=FailureDetails(message="x", error_type="E")
        ),
        SubOrchestrationInstanceCompletedEvent(timestamp=now, task_scheduled_id=1, result='"no child"'),
        TimerFiredEvent(timestamp=now, timer_id=9, fire_at=now),
    ]
    for execution_id in (known, "unknown", None):
        for body in bodies:
            forge(stage, instance, body, execution_id)
    stage.client.raise_orchestration_event(instance, "go", data="done")
    assert stage.completed(instance) == ["mine", "done"]
    more = [kind for kind in stage.events(instance)[len(before) :] if kind != "OrchestratorStarted"]
    assert more == ["EventRaised", "ExecutionCompleted"]


def test_a_forged_reference_reads_no_other_instances_value(stage: Stage) -> None:
    stage.worker(talks, activities=[say])
    large = "secret " * 20_000
    owner = stage.client.schedule_new_orchestration(talks, input=large)
    stage.eventually(partial(waits, stage, owner))
    row = stage.existing_row(owner)
    assert isinstance(row.input, BlobRef)
    for name in (
        row.input.name,
        payload_name(0, owner, "x", b"y"),
        "p000/../../x",
        "https://example.invalid/x",
    ):
        instance = stage.client.schedule_new_orchestration("talks", input=1)
        stage.eventually(partial(waits, stage, instance))
        body = EventRaisedEvent(
            timestamp=row.updated_at,
            name="go",
            input=BlobRef(name, row.input.size),
            source_id=f"s{len(name)}",
        )
        forge(stage, instance, body, None)
        failure = stage.end(instance).failure_details
        assert failure is not None
        assert failure.error_type == "PayloadMissingError"
        assert "secret" not in failure.message


@pytest.mark.parametrize("odd", ODD)
def test_odd_ids_names_tags_and_values_are_only_text(stage: Stage, odd: str) -> None:
    stage.worker(talks, activities=[say])
    other = stage.client.schedule_new_orchestration(talks, input=1, instance_id="other", tags={"k": "v"})
    instance = stage.client.schedule_new_orchestration(talks, input=odd, instance_id=odd, tags={odd: odd})
    stage.client.raise_orchestration_event(instance, odd, data=odd)
    stage.client.raise_orchestration_event(instance, "go", data=odd)
    assert stage.completed(instance) == [odd, odd]
    assert stage.state(instance).tags == {odd: odd}
    for query in (
        OrchestrationQuery(instance_id_prefix=odd),
        OrchestrationQuery(tags={odd: odd}),
        OrchestrationQuery(runtime_status=[OrchestrationStatus.COMPLETED], names=["talks"]),
    ):
        assert [state.instance_id for state in stage.client.get_all_orchestration_states(query)] == [instance]
    assert stage.client.get_all_orchestration_states(OrchestrationQuery(names=[odd])) == []
    assert stage.state(other).runtime_status is OrchestrationStatus.RUNNING


def test_a_token_of_a_page_cannot_be_made_up(stage: Stage) -> None:
    for token in (*ODD, "e30=", "WzEsMl0=", "AAAA"):
        with pytest.raises(ConfigurationError, match="token"):
            stage.client.list_instance_ids(continuation_token=token)

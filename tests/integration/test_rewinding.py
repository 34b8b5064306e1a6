"""What the parts of the engine beside the turns know of continued executions; and the async client's side of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from durabletask_azure import (
    AsyncTaskHubClient,
    OrchestrationContext,
    OrchestrationStateError,
    OrchestrationStatus,
    TaskHub,
    TaskHubWorker,
    history,
)
from durabletask_azure.adapters.local import open_local
from durabletask_azure.core.history import (
    ExecutionStartedEvent,
    Handover,
    OrchestratorStartedEvent,
    Parent,
    RuntimeStatus,
    SubOrchestrationInstanceCreatedEvent,
    encode_event,
)
from durabletask_azure.core.messages import ContinuedChild
from durabletask_azure.core.payloads import payload_name
from durabletask_azure.core.rows import PastExecution
from durabletask_azure.engine.operations import ClientOperations
from durabletask_azure.engine.orphans import collect_orphans
from durabletask_azure.engine.repair import repair
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings
from tests.contract.builders import NOON, WAIT_S, instance
from tests.unit.bench import replaced


@pytest.fixture
async def ports() -> AsyncIterator[HubPorts]:
    opened = open_local(None, partitions=1, settings=Settings())
    yield opened
    assert opened.close is not None
    await opened.close()


def continued(*sources: str) -> bytes:
    """Return the stored history of a continued execution that waits for a child."""
    events = (
        OrchestratorStartedEvent(timestamp=NOON),
        ExecutionStartedEvent(
            timestamp=NOON, name="order", instance_id="p", execution_id="y", sources=sources
        ),
        SubOrchestrationInstanceCreatedEvent(
            timestamp=NOON, event_id=1, name="kid", instance_id="c", handover=Handover(rewind=True)
        ),
    )
    return b"".join(encode_event(event) for event in events)


async def test_a_repair_hands_the_children_of_a_continued_execution_over_again(ports: HubPorts) -> None:
    await ports.store.insert_instance(0, instance("p", execution_id="y", tail=continued("x")))
    child = replaced(instance("c", status=RuntimeStatus.FAILED), parent=Parent("p", "x", 1))
    await ports.store.insert_instance(0, child)
    assert (await repair(ports, Settings())).children == 1
    session = await ports.orchestrations.accept(0)
    assert session is not None
    bodies = [
        message.body
        for delivery in await session.receive(10, WAIT_S)
        for message in delivery.messages
        if message.instance_id == "c"
    ]
    await session.close()
    assert [(type(body), body.formers) for body in bodies if isinstance(body, ContinuedChild)] == [
        (ContinuedChild, ("x",))
    ]


async def test_values_of_the_executions_a_kept_history_was_copied_from_are_no_orphans(
    ports: HubPorts,
) -> None:
    row = replaced(
        instance("p", execution_id="y", tail=continued("x")),
        past=(PastExecution("w", 0, 0, sources=("v",)),),
    )
    await ports.store.insert_instance(0, row)
    names = {
        execution: payload_name(0, "p", execution, execution.encode())
        for execution in ("u", "v", "w", "x", "y")
    }
    for execution, name in names.items():
        await ports.payloads.put(name, execution.encode())
    # the age is negative: everything written before the future is old
    assert await collect_orphans(ports, 0, -3600) == 1
    left = {name async for name, _ in ports.payloads.list("")}
    assert left == set(names.values()) - {names["u"]}


async def test_an_order_that_was_overtaken_is_told_so(ports: HubPorts) -> None:
    await ports.store.insert_instance(0, instance("p", execution_id="y", tail=continued()))
    client = ClientOperations(ports, Settings(), iter("abcdef").__next__)
    with pytest.raises(OrchestrationStateError, match="has moved on to execution y and is RUNNING"):
        await client.rewinding.reset("p", execution_id="x", turn=0, keep_events=True, reason=None)


async def flow(ctx: OrchestrationContext, fails: bool) -> str:
    word: Any = await ctx.wait_for_external_event("word")
    if fails and word == "bad":
        raise ValueError(word)
    return f"{word}!"


async def test_the_async_client_rewinds_resets_and_restarts() -> None:
    with TaskHub.local() as hub, TaskHubWorker(hub) as worker:
        worker.add_orchestrator(flow)
        worker.start()
        async with AsyncTaskHubClient(hub) as client:

            async def status(instance_id: str) -> OrchestrationStatus:
                state = await client.wait_for_orchestration_completion(instance_id, timeout=WAIT_S)
                assert state is not None
                return state.runtime_status

            await client.schedule_new_orchestration(
                flow, input=True, instance_id="i", raise_event=("word", "bad")
            )
            assert await status("i") is OrchestrationStatus.FAILED
            await client.rewind_orchestration("i", reason="once more")
            assert await status("i") is OrchestrationStatus.FAILED
            events = await client.get_orchestration_history("i")
            told = [event.reason for event in events if isinstance(event, history.ExecutionRewoundEvent)]
            assert told == ["once more"]
            execution = await client.reset_orchestration("i", event_index=0, keep_events=False)
            await client.raise_orchestration_event("i", "word", data="good")
            assert await status("i") is OrchestrationStatus.COMPLETED
            events = await client.get_orchestration_history("i", execution_id=execution)
            assert any(isinstance(event, history.ExecutionRewoundEvent) for event in events)
            again = await client.restart_orchestration("i", restart_with_new_instance_id=True)
            assert again != "i"
            await client.raise_orchestration_event(again, "word", data="good")
            assert await status(again) is OrchestrationStatus.COMPLETED

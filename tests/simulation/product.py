"""The product as the simulator drives it: the engine and the client's operations on ports it is handed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec

from durabletask_azure.core.composite import when_all, when_any
from durabletask_azure.core.history import ExecutionStartedEvent, OrchestratorStartedEvent
from durabletask_azure.core.messages import PurgeInstance
from durabletask_azure.core.outbox import to_instance
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.core.retry import RetryPolicy
from durabletask_azure.engine.executor import InlineExecutor
from durabletask_azure.engine.operations import ClientOperations, StartRequest
from durabletask_azure.engine.orphans import collect_orphans
from durabletask_azure.engine.repair import repair
from durabletask_azure.engine.worker import Engine
from durabletask_azure.errors import OrchestrationNotFoundError, OrchestrationStateError, TaskFailedError
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings
from tests.simulation.fakes.world import EPOCH
from tests.simulation.interpreter import ACTIVITY, ORCHESTRATORS, Harness, Toolbox, start_input
from tests.simulation.programs import (
    Again,
    Case,
    ClientAction,
    Purge,
    RaiseEvent,
    Reset,
    Resume,
    Rewind,
    Start,
    Suspend,
    Terminate,
)

__all__ = ["DurableTaskProduct"]


class DurableTaskProduct:
    """``durabletask_azure`` below its public front: engine and operations."""

    def tools(self) -> Toolbox:
        """Return the names orchestrators use."""
        return Toolbox(
            when_all=when_all, when_any=when_any, retry_policy=RetryPolicy, task_failed=TaskFailedError
        )

    async def start_worker(
        self, ports: HubPorts, harness: Harness, settings: Settings, name: str, unknown: Sequence[str] = ()
    ) -> Engine:
        """Start an engine, without the orchestrators of the styles ``unknown``."""
        registry = Registry()
        if "async" not in unknown:
            registry.add_orchestrator(harness.orchestrate_async, name=ORCHESTRATORS["async"])
        if "generator" not in unknown:
            registry.add_orchestrator(harness.orchestrate_generator, name=ORCHESTRATORS["generator"])
        registry.add_activity(harness.work, name=ACTIVITY)
        engine = Engine(
            ports,
            registry,
            settings,
            RuntimeOptions(),
            executor=InlineExecutor(),
            worker_id=name,
            id_source=lambda: uuid.uuid4().hex,
        )
        await engine.start()
        return engine

    async def act(self, ports: HubPorts, case: Case, action: ClientAction, settings: Settings) -> None:
        """Do one of the client's actions."""
        client = _client(ports, settings)
        match action:
            case Start(program=program, delay_s=delay_s):
                due = EPOCH + timedelta(seconds=action.at + delay_s) if delay_s else None
                await client.starting.start(_request(case, action.instance, start_input(program), due))
            case Again(program=program):
                await client.starting.start(
                    _request(case, action.instance, start_input(program, life=1), None)
                )
            case Purge(recursive=recursive, blind=True):
                order = to_instance(
                    action.instance,
                    PurgeInstance(recursive=recursive),
                    message_id=uuid.uuid4().hex,
                    partitions=ports.info.partitions,
                )
                await ports.orchestrations.send([order])
            case Purge(recursive=recursive):
                await client.purging.purge(action.instance, recursive=recursive)
            case RaiseEvent(name=name, value=value, key=key):
                await client.orders.raise_event(action.instance, name, str(value), key)
            case Suspend():
                await client.orders.suspend(action.instance, None)
            case Resume():
                await client.orders.resume(action.instance, None)
            case Terminate():
                await client.orders.terminate(action.instance, None, recursive=False)
            case Rewind() | Reset():
                # Not there, not failed, or moved on: there is nothing to do.
                with suppress(OrchestrationNotFoundError, OrchestrationStateError):
                    await _take_up(client, action)

    async def purge(self, ports: HubPorts, instance: str, settings: Settings, *, recursive: bool) -> None:
        """Ask for the removal of a terminal instance."""
        await _client(ports, settings).purging.purge(instance, recursive=recursive)

    async def repair(self, ports: HubPorts, settings: Settings) -> None:
        """Send again what a lost queue took with it."""
        await repair(ports, settings)

    async def collect_orphans(self, ports: HubPorts, partition: int, older_than_s: float) -> None:
        """Delete the blobs of a partition that nobody refers to."""
        await collect_orphans(ports, partition, older_than_s)


async def _take_up(client: ClientOperations, action: Rewind | Reset) -> None:
    if isinstance(action, Rewind):
        await client.rewinding.rewind(action.instance, "mended")
        return
    events = await client.instances.events(action.instance)
    started = next((event for event in events if isinstance(event, ExecutionStartedEvent)), None)
    if started is None:
        return
    turns = sum(isinstance(event, OrchestratorStartedEvent) for event in events)
    await client.rewinding.reset(
        action.instance,
        execution_id=started.execution_id,
        turn=int(turns * action.share),
        keep_events=True,
        reason=None,
    )


def _request(case: Case, instance: str, data: dict[str, int], due: datetime | None) -> StartRequest:
    return StartRequest(
        name=ORCHESTRATORS[case.programs[data["program"]].style],
        instance_id=instance,
        input=msgspec.json.encode(data).decode(),
        scheduled_start=due,
    )


def _client(ports: HubPorts, settings: Settings) -> ClientOperations:
    return ClientOperations(ports, settings, lambda: uuid.uuid4().hex)

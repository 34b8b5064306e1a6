"""The product as the simulator drives it: the engine and the client's operations on ports it is handed."""

from __future__ import annotations

import uuid
from datetime import timedelta

import msgspec

from durabletask_azure.core.composite import when_all, when_any
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.core.retry import RetryPolicy
from durabletask_azure.engine.executor import InlineExecutor
from durabletask_azure.engine.operations import ClientOperations, StartRequest
from durabletask_azure.engine.worker import Engine
from durabletask_azure.errors import TaskFailedError
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings
from tests.simulation.fakes.world import EPOCH
from tests.simulation.interpreter import ACTIVITY, ORCHESTRATORS, Harness, Toolbox, start_input
from tests.simulation.programs import Case, ClientAction, RaiseEvent, Resume, Start, Suspend, Terminate

__all__ = ["DurableTaskProduct"]


class DurableTaskProduct:
    """``durabletask_azure`` below its public front: engine and operations."""

    def tools(self) -> Toolbox:
        """Return the names orchestrators use."""
        return Toolbox(
            when_all=when_all, when_any=when_any, retry_policy=RetryPolicy, task_failed=TaskFailedError
        )

    async def start_worker(self, ports: HubPorts, harness: Harness, settings: Settings, name: str) -> Engine:
        """Start an engine."""
        registry = Registry()
        registry.add_orchestrator(harness.orchestrate_async, name=ORCHESTRATORS["async"])
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
                await client.start(
                    StartRequest(
                        name=ORCHESTRATORS[case.programs[program].style],
                        instance_id=action.instance,
                        input=msgspec.json.encode(start_input(program)).decode(),
                        scheduled_start=due,
                    )
                )
            case RaiseEvent(name=name, value=value, key=key):
                await client.raise_event(action.instance, name, str(value), key)
            case Suspend():
                await client.suspend(action.instance, None)
            case Resume():
                await client.resume(action.instance, None)
            case Terminate():
                await client.terminate(action.instance, None, recursive=False)

    async def purge(self, ports: HubPorts, instance: str, settings: Settings) -> None:
        """Ask for the removal of a terminal instance."""
        await _client(ports, settings).purge(instance, recursive=False)


def _client(ports: HubPorts, settings: Settings) -> ClientOperations:
    return ClientOperations(ports, settings, lambda: uuid.uuid4().hex)

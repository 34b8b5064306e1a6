"""A warm step costs the same however long the history is: counted in port calls and replayed events."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from durabletask_azure import OrchestrationContext
from durabletask_azure.adapters.local import open_local
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.engine.executor import InlineExecutor
from durabletask_azure.engine.operations import ClientOperations, StartRequest
from durabletask_azure.engine.worker import Engine
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings

# Nothing but steps: no sweep, heartbeat or balancing comes between.
QUIET = Settings(balance_s=600.0, heartbeat_s=600.0, sweep_s=600.0)


class Counting:
    """Stands before a port and counts the calls of its methods by name."""

    def __init__(self, port: Any, calls: Counter[str]) -> None:
        self._port = port
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._port, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._calls[name] += 1
            return target(*args, **kwargs)

        return call


async def _calls_of_a_chain(steps: int, *, is_atomic: bool) -> tuple[Counter[str], int, int]:
    """Run a chain of so many activities; return the port calls of the store, the events replayed, the commits."""

    async def chain(ctx: OrchestrationContext, n: int) -> int:
        total = 0
        for i in range(n):
            total += await ctx.call_activity("echo", input=i)
        return total

    def echo(_: object, value: int) -> int:
        return value

    opened = open_local(None, partitions=1, settings=QUIET)
    calls: Counter[str] = Counter()
    ports: HubPorts = replace(
        opened,
        store=Counting(opened.store, calls),
        atomic=Counting(opened.atomic, calls) if is_atomic else None,
    )
    registry = Registry()
    registry.add_orchestrator(chain)
    registry.add_activity(echo)
    numbers = iter(range(1_000_000))
    engine = Engine(
        ports,
        registry,
        QUIET,
        RuntimeOptions(),
        executor=InlineExecutor(),
        worker_id="w",
        id_source=lambda: str(next(numbers)),
    )
    client = ClientOperations(opened, QUIET, lambda: f"client{next(numbers)}")
    await engine.start()
    await client.starting.start(StartRequest(name="chain", input=str(steps), instance_id="chain-1"))
    row = await client.waiting.wait_for_completion("chain-1", 60.0)
    assert row.output == str(steps * (steps - 1) // 2)
    counters = engine.counters
    await engine.stop()
    assert opened.close is not None
    await opened.close()
    return calls, counters.replayed_events, counters.commits


@pytest.mark.parametrize("is_atomic", [True, False], ids=["shared transactions", "store and queues apart"])
async def test_a_warm_step_costs_the_same_after_100_and_after_1000_activities(is_atomic: bool) -> None:
    short_calls, short_replayed, short_commits = await _calls_of_a_chain(100, is_atomic=is_atomic)
    long_calls, long_replayed, long_commits = await _calls_of_a_chain(1_000, is_atomic=is_atomic)
    print(f"100 steps: {dict(short_calls)}, 1,000 steps: {dict(long_calls)}")

    assert short_replayed == long_replayed == 0
    assert short_commits == 101
    assert long_commits == 1_001
    commits = "execute" if is_atomic else "commit"
    # besides one commit a step: the take-over, and a few writes of an idle lock row
    assert short_calls[commits] <= 100 + 10
    assert long_calls[commits] <= 1_000 + 10 * 2
    for reads in ("read_instance", "read_segments", "read_lock", "query"):
        assert long_calls[reads] <= short_calls[reads] + 2, reads

"""Microsoft's ``durabletask`` on its in-memory backend, in its own process (``proc``) or the worker's (``inproc``).

Nothing is kept: the state lives in the backend's memory. Every activity crosses a gRPC connection, and the whole
history is sent with each turn. Runs in the peers' environment.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Generator
from concurrent import futures
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from benchmarks.processes import end_process, free_port, wait_for_port
from benchmarks.workloads import FULL, SMALL, finished, own_process, run_system
from benchmarks.yardsticks import yardsticks

__all__ = ["main"]

_WAIT_S = 300
_HISTORY_EVENTS_MAX = 100_000


def start_backend(port: int) -> Any:
    """Start the backend as its own ``start`` does, but on the loopback interface only."""
    grpc: Any = importlib.import_module("grpc")
    testing: Any = importlib.import_module("durabletask.testing.in_memory_backend")
    backend = testing.InMemoryOrchestrationBackend(port=port, max_history_size=_HISTORY_EVENTS_MAX)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=10))
    testing.stubs.add_TaskHubSidecarServiceServicer_to_server(backend, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return backend, server


def noop(_ctx: Any, value: int) -> int:
    """Return what came in."""
    return value


def chain(ctx: Any, steps: int) -> Generator[Any, Any, int]:
    """Sum the results of activities, one after the other."""
    total = 0
    for index in range(steps):
        total += yield ctx.call_activity(noop, input=index)
    return total


def fan_out(ctx: Any, width: int) -> Generator[Any, Any, int]:
    """Sum the results of activities, all at once."""
    task: Any = importlib.import_module("durabletask.task")
    results = yield task.when_all([ctx.call_activity(noop, input=index) for index in range(width)])
    return sum(results)


class DurableTask:
    """A running worker and a client; a :class:`benchmarks.workloads.System`."""

    def __init__(self, port: int) -> None:
        client: Any = importlib.import_module("durabletask.client")
        worker: Any = importlib.import_module("durabletask.worker")
        logger = logging.getLogger("durabletask")
        logger.setLevel(logging.ERROR)
        address = f"127.0.0.1:{port}"
        self.worker = worker.TaskHubGrpcWorker(host_address=address, logger=logger)
        for orchestrator in (chain, fan_out):
            self.worker.add_orchestrator(orchestrator)
        self.worker.add_activity(noop)
        self.worker.start()
        self._client = client.TaskHubGrpcClient(host_address=address, logger=logger)

    async def chain(self, steps: int) -> int:
        """Run one chain."""
        return self._result(self._client.schedule_new_orchestration(chain, input=steps))

    async def chains(self, count: int, steps: int) -> list[int]:
        """Run chains: all are started, then all awaited, as this client does it."""
        ids = [self._client.schedule_new_orchestration(chain, input=steps) for _ in range(count)]
        return [self._result(instance_id) for instance_id in ids]

    async def fan_out(self, width: int) -> int:
        """Run one fan-out."""
        return self._result(self._client.schedule_new_orchestration(fan_out, input=width))

    def _result(self, instance_id: str) -> int:
        state = self._client.wait_for_orchestration_completion(instance_id, timeout=_WAIT_S)
        if state is None or state.runtime_status.name != "COMPLETED":
            raise AssertionError(f"an orchestration did not complete: {state}")
        return json.loads(state.serialized_output)


def main(where: str, small: bool) -> None:
    """Run all workloads once, with the backend in a process of its own or in this one, and print the run."""
    before = yardsticks()
    port = free_port()
    backend: subprocess.Popen[bytes] | None = None
    processes = own_process()
    held: Any = None
    if where == "proc":
        backend = subprocess.Popen([sys.executable, "-m", __spec__.name, "serve", str(port)])  # noqa: S603
        wait_for_port(port, backend)
        processes = own_process(backend=backend.pid)
    else:
        held = start_backend(port)
    try:
        system = DurableTask(port)
        figures = asyncio.run(run_system(system, SMALL if small else FULL, processes))
        run = finished(
            f"durabletask in memory, {where}",
            "in-memory backend over gRPC, default concurrency; not durable",
            {name: version(name) for name in ("durabletask", "grpcio")},
            figures,
            before,
            processes,
        )
        system.worker.stop()
    finally:
        if backend is not None:
            end_process(backend)
        elif held is not None:
            held[1].stop(None)
    print(json.dumps(asdict(run)), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _running = start_backend(int(sys.argv[2]))
        threading.Event().wait()
    else:
        main(sys.argv[1], small=sys.argv[2] == "small")

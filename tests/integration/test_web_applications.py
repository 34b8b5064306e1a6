"""A hub in a web application: there from its start to its end, for every request."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient

from durabletask_azure import (
    ActivityContext,
    ArgumentTypeError,
    AsyncTaskHubClient,
    ConfigurationError,
    OrchestrationContext,
    OrchestrationStatus,
    TaskHub,
    TaskHubClient,
    TaskHubWorker,
)
from durabletask_azure.integrations.asgi import RunningHub, running_hub
from durabletask_azure.integrations.fastapi import HubClient, lifespan


async def double(ctx: ActivityContext, number: int) -> int:
    return 2 * number


async def flow(ctx: OrchestrationContext, number: int) -> int:
    return await ctx.call_activity(double, input=number)


def make_worker(hub: TaskHub) -> TaskHubWorker:
    worker = TaskHubWorker(hub)
    worker.add_orchestrator(flow)
    worker.add_activity(double)
    return worker


async def result(client: AsyncTaskHubClient, number: int) -> Any:
    instance = await client.schedule_new_orchestration(flow, input=number)
    state = await client.wait_for_orchestration_completion(instance, timeout=30)
    assert state is not None
    return state.get_output()


def with_routes(app: FastAPI) -> FastAPI:
    async def answer(number: int, hub: HubClient) -> Any:
        return await result(hub, number)

    async def talk(socket: WebSocket, hub: HubClient) -> None:
        await socket.accept()
        await socket.send_json(await result(hub, 5))

    app.add_api_route("/double/{number}", answer)
    app.add_api_websocket_route("/talk", talk)
    return app


def test_requests_and_web_sockets_are_given_the_client() -> None:
    app = with_routes(FastAPI(lifespan=lifespan(TaskHub.local, worker=make_worker)))
    with TestClient(app) as http:
        assert http.get("/double/4").json() == 8
        with http.websocket_connect("/talk") as socket:
            assert socket.receive_json() == 10


def test_an_application_with_a_lifespan_of_its_own_enters_this_one() -> None:
    with_hub = lifespan(TaskHub.local, worker=make_worker)

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncGenerator[dict[str, Any]]:
        async with with_hub(app) as state:
            yield {**state, "more": 1}

    with TestClient(with_routes(FastAPI(lifespan=own))) as http:
        assert http.get("/double/4").json() == 8


def test_an_application_without_a_hub_is_told_so() -> None:
    with (
        TestClient(with_routes(FastAPI())) as http,
        pytest.raises(ConfigurationError, match="the application has no task hub: make it with"),
    ):
        http.get("/double/4")


async def test_what_it_opens_it_closes_and_what_was_open_it_leaves_open() -> None:
    async with running_hub(TaskHub.local, worker=make_worker) as running:
        assert running.worker is not None
        assert running.worker.is_running
        assert await result(running.client, 1) == 2
    assert running.hub.is_closed
    assert not running.worker.is_running

    with TaskHub.local() as hub:
        async with running_hub(hub) as running:
            assert running == RunningHub(hub, running.client, None)
        assert not hub.is_closed


async def test_at_the_end_running_activities_are_waited_for(tmp_path: Path) -> None:
    started, may_end = asyncio.Event(), asyncio.Event()
    runs: list[int] = []

    async def slow(ctx: ActivityContext, _: Any) -> str:
        runs.append(ctx.delivery_count)
        started.set()
        await may_end.wait()
        return "done"

    async def wait(ctx: OrchestrationContext, _: Any) -> Any:
        return await ctx.call_activity(slow)

    def make(hub: TaskHub) -> TaskHubWorker:
        worker = TaskHubWorker(hub)
        worker.add_orchestrator(wait)
        worker.add_activity(slow)
        return worker

    path = tmp_path / "hub.db"
    async with running_hub(lambda: TaskHub.local(path), worker=make) as running:
        await running.client.schedule_new_orchestration(wait, instance_id="one")
        await started.wait()
        asyncio.get_running_loop().call_soon(may_end.set)
    with TaskHub.local(path) as hub, make(hub) as worker:
        worker.start()
        state = TaskHubClient(hub).wait_for_orchestration_completion("one", timeout=30)
    assert runs == [1]
    assert state is not None
    assert (state.runtime_status, state.get_output()) == (OrchestrationStatus.COMPLETED, "done")


async def test_a_worker_that_does_not_start_closes_the_hub() -> None:
    opened: list[TaskHub] = []

    def fail(hub: TaskHub) -> TaskHubWorker:
        opened.append(hub)
        raise LookupError

    with pytest.raises(LookupError):
        async with running_hub(TaskHub.local, worker=fail):
            pass
    assert opened[0].is_closed


def no_worker(hub: TaskHub) -> None: ...


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"hub": "hub.db"}, "hub must be a TaskHub, or a function that opens one, not str"),
    ({"hub": dict}, "hub must return an object of TaskHub, not dict"),
    ({"hub": TaskHub.local, "worker": 5}, r"worker must be a function \(hub\) .*, not int"),
    ({"hub": TaskHub.local, "worker": no_worker}, "worker must return an object of TaskHubWorker, not None"),
    ({"hub": TaskHub.local, "client": None}, r"client must be a function \(hub\) .*, not NoneType"),
    ({"hub": TaskHub.local, "client": TaskHubClient}, "client must return an object of AsyncTaskHubClient"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
async def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentTypeError, match=message):
        async with running_hub(**arguments):
            pass


def test_fastapi_is_needed_by_its_own_module_alone() -> None:
    code = (
        "import sys; sys.modules['fastapi'] = None\n"
        "import durabletask_azure.integrations.asgi\n"
        "try:\n"
        "    import durabletask_azure.integrations.fastapi\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)  # noqa: S603
    assert done.stdout == "FastAPI is not installed; install the package as durabletask-azure[fastapi]\n"

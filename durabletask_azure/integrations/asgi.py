"""A task hub that lives as long as a web application: the lifespan of FastAPI, Starlette and other ASGI frameworks.

The hub is opened when the application starts, in the process that serves it (a hub does not survive a fork), a worker
may run beside the requests, and at the end it drains before the hub is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

from durabletask_azure.async_client import AsyncTaskHubClient
from durabletask_azure.errors import ArgumentTypeError
from durabletask_azure.hub import TaskHub
from durabletask_azure.worker import TaskHubWorker

__all__ = ["LifespanState", "RunningHub", "lifespan", "running_hub"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunningHub:
    """A hub in use: its client, and the worker that runs beside the application, if there is one."""

    hub: TaskHub
    client: AsyncTaskHubClient
    worker: TaskHubWorker | None


class LifespanState(TypedDict):
    """What requests find in ``request.state``."""

    task_hub: RunningHub


@contextlib.asynccontextmanager
async def running_hub(
    hub: TaskHub | Callable[[], TaskHub],
    *,
    worker: Callable[[TaskHub], TaskHubWorker] | None = None,
    client: Callable[[TaskHub], AsyncTaskHubClient] = AsyncTaskHubClient,
) -> AsyncGenerator[RunningHub]:
    """Open a hub, start a worker and make a client; at the end drain the worker and close the hub.

    Args:
        hub: what opens the hub, such as ``lambda: TaskHub.local("hub.db")``; or an open one, which is left open.
        worker: what makes the worker and registers its code; without one the application only starts and steers.
            Async activities run on the application's loop.
        client: what makes the client.

    Raises:
        ArgumentTypeError: one of these is not, or returns not, what it should. Errors of opening and starting.
    """
    async with contextlib.AsyncExitStack() as ending:
        if isinstance(hub, TaskHub):
            opened = hub
        else:
            _check_callable(hub, "hub", "a TaskHub, or a function that opens one")
            # In a thread: opening reads and writes files.
            opened = _checked(await asyncio.to_thread(hub), TaskHub, "hub")
            await ending.enter_async_context(opened)
        _check_callable(client, "client", "a function (hub) that makes an AsyncTaskHubClient")
        made = _checked(client(opened), AsyncTaskHubClient, "client")
        started: TaskHubWorker | None = None
        if worker is not None:
            _check_callable(worker, "worker", "a function (hub) that makes a TaskHubWorker")
            started = _checked(worker(opened), TaskHubWorker, "worker")
            await ending.enter_async_context(started)
            if not started.is_running:
                await asyncio.to_thread(started.start)
        yield RunningHub(opened, made, started)


def lifespan(
    hub: TaskHub | Callable[[], TaskHub],
    *,
    worker: Callable[[TaskHub], TaskHubWorker] | None = None,
    client: Callable[[TaskHub], AsyncTaskHubClient] = AsyncTaskHubClient,
) -> Callable[[Any], contextlib.AbstractAsyncContextManager[LifespanState]]:
    """Return a lifespan for an application, as in ``FastAPI(lifespan=lifespan(open_hub, worker=make_worker))``.

    Arguments and errors as for :func:`running_hub`. An application with a lifespan of its own enters this one in
    it, and yields ``{**state, ...}``.
    """

    @contextlib.asynccontextmanager
    async def live(_app: Any) -> AsyncGenerator[LifespanState]:
        async with running_hub(hub, worker=worker, client=client) as running:
            yield {"task_hub": running}

    return live


def _check_callable(given: object, name: str, wanted: str) -> None:
    if not callable(given):
        raise ArgumentTypeError(f"{name} must be {wanted}, not {type(given).__name__}")


def _checked(made: object, kind: type[T], name: str) -> T:
    if not isinstance(made, kind):
        raise ArgumentTypeError(f"{name} must return an object of {kind.__name__}, not {type(made).__name__}")
    return made

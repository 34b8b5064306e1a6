"""A task hub in a FastAPI application; install ``durabletask-azure[fastapi]``.

.. code-block:: python

    app = FastAPI(lifespan=lifespan(lambda: TaskHub.local("hub.db"), worker=make_worker))

    @app.post("/orders")
    async def order(item: str, hub: HubClient) -> str:
        return await hub.schedule_new_orchestration("sell", input=item)
"""

from __future__ import annotations

from typing import Annotated

from durabletask_azure.async_client import AsyncTaskHubClient
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.integrations.asgi import LifespanState, RunningHub, lifespan, running_hub

try:
    from fastapi import Depends
    from fastapi.requests import HTTPConnection
except ImportError as error:
    raise ImportError(
        "FastAPI is not installed; install the package as durabletask-azure[fastapi]"
    ) from error

__all__ = ["HubClient", "LifespanState", "RunningHub", "hub_client", "lifespan", "running_hub"]


def hub_client(connection: HTTPConnection) -> AsyncTaskHubClient:
    """Return the application's client, for ``Depends(hub_client)``; of a request or a web socket.

    Raises:
        ConfigurationError: the application was not started with :func:`lifespan`.
    """
    running = getattr(connection.state, "task_hub", None)
    if not isinstance(running, RunningHub):
        raise ConfigurationError(
            "the application has no task hub: make it with FastAPI(lifespan=lifespan(...)), or yield what lifespan(...)"
            " yields from its own lifespan"
        )
    return running.client


HubClient = Annotated[AsyncTaskHubClient, Depends(hub_client)]
"""The type of a parameter that is given the application's client."""

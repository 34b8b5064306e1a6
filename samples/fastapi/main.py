"""A web application that starts orchestrations, answers at once, and takes the decision in a later request."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

from durabletask_azure import ActivityContext, OrchestrationContext, TaskHub, TaskHubWorker
from durabletask_azure.client import OrchestrationIdReusePolicy
from durabletask_azure.errors import OrchestrationAlreadyExistsError
from durabletask_azure.integrations.fastapi import HubClient, lifespan


async def charge(ctx: ActivityContext, order: dict[str, Any]) -> str:
    """An async activity runs on the application's own loop, beside the requests."""
    return f"{order['item']} charged"


async def sell(ctx: OrchestrationContext, order: dict[str, Any]) -> str:
    """Charge an order once somebody has approved it."""
    ctx.set_custom_status("waits for approval")
    approved = await ctx.wait_for_external_event("approved", data_type=bool)
    if not approved:
        return f"{order['item']} refused"
    return await ctx.call_activity(charge, input=order)


def open_hub() -> TaskHub:
    """Open the hub in the process that serves; SHOP_HUB names its file, unless the environment names an Azure hub."""
    return TaskHub.from_env(default=os.environ.get("SHOP_HUB"))


def make_worker(hub: TaskHub) -> TaskHubWorker:
    """Register the code; the application starts and stops the worker."""
    worker = TaskHubWorker(hub)
    worker.add_orchestrator(sell)
    worker.add_activity(charge)
    return worker


ONCE = OrchestrationIdReusePolicy(replaceable_status=[])

app = FastAPI(lifespan=lifespan(open_hub, worker=make_worker))


@app.post("/orders/{number}", status_code=202)
async def place(number: str, order: dict[str, Any], hub: HubClient) -> dict[str, str]:
    """Start a sale; the order's number is its instance id, so that placing it twice is refused."""
    try:
        started = await hub.schedule_new_orchestration(
            sell, input=order, instance_id=number, reuse_id_policy=ONCE
        )
    except OrchestrationAlreadyExistsError:
        raise HTTPException(409) from None
    return {"id": started}


@app.post("/orders/{number}/decision", status_code=202)
async def decide(number: str, approved: bool, hub: HubClient) -> None:
    """Approve or refuse."""
    await hub.raise_orchestration_event(number, "approved", data=approved)


@app.get("/orders/{number}")
async def look(number: str, hub: HubClient, wait_s: float = 0) -> dict[str, Any]:
    """Tell how a sale stands; with ``wait_s`` once it is over."""
    state = await hub.get_orchestration_state(number)
    if state is not None and wait_s:
        with contextlib.suppress(TimeoutError):
            state = await hub.wait_for_orchestration_completion(number, timeout=wait_s)
    if state is None:
        raise HTTPException(404)
    return {"status": str(state.runtime_status), "output": state.get_output()}


def main() -> None:
    """Use the application as a browser would, started, stopped and started again."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SHOP_HUB"] = os.path.join(folder, "shop.db")
        with TestClient(app) as http:
            print(http.post("/orders/1", json={"item": "bicycle"}).json())
            print(http.post("/orders/2", json={"item": "yacht"}).json())
            print(http.get("/orders/3").status_code)
        with TestClient(app) as http:
            http.post("/orders/1/decision?approved=true")
            http.post("/orders/2/decision?approved=false")
            for number in (1, 2):
                print(http.get(f"/orders/{number}?wait_s=30").json())


if __name__ == "__main__":
    main()

"""An orchestration that calls two activities, one after the other."""

from __future__ import annotations

from durabletask_azure import ActivityContext, OrchestrationContext, TaskHub, TaskHubClient, TaskHubWorker


def greet(ctx: ActivityContext, name: str) -> str:
    """An activity: an ordinary function that may do anything."""
    return f"Hello, {name}!"


async def greetings(ctx: OrchestrationContext, names: list[str]) -> list[str]:
    """An orchestrator: it calls activities and waits for them; everything it has done so far is kept in its history."""
    return [await ctx.call_activity(greet, input=name) for name in names]


def main() -> None:
    """Run one worker and one orchestration, on a hub in memory unless the environment names another."""
    with TaskHub.from_env(default="memory") as hub, TaskHubWorker(hub) as worker:
        worker.add_orchestrator(greetings)
        worker.add_activity(greet)
        worker.start()

        client = TaskHubClient(hub)
        instance_id = client.schedule_new_orchestration(greetings, input=["Lagos", "Quito"])
        state = client.wait_for_orchestration_completion(instance_id, timeout=30)
        assert state is not None
        print(state.runtime_status)
        print(state.get_output())


if __name__ == "__main__":
    main()

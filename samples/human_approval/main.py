"""An expense is paid when somebody approves it in time, and goes to the boss when nobody does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from durabletask_azure import ActivityContext, OrchestrationContext, TaskHub, TaskHubClient, TaskHubWorker


@dataclass
class Expense:
    """What somebody wants to be paid back, and how long there is to decide."""

    what: str
    cents: int
    seconds_to_decide: float


@dataclass
class Answer:
    """What the human said."""

    approved: bool
    by: str


def notify(ctx: ActivityContext, text: str) -> None:
    """Tell somebody; here, whoever watches the terminal."""
    print(f"  mail: {text}")


async def reimburse(ctx: OrchestrationContext, expense: Expense) -> str:
    """Wait for an answer. Meanwhile no thread and no process is occupied, for minutes or for months."""
    await ctx.call_activity(notify, input=f"please decide about {expense.what}, {expense.cents / 100:.2f}")
    try:
        answer = await ctx.wait_for_external_event(
            "decision", data_type=Answer, timeout=timedelta(seconds=expense.seconds_to_decide)
        )
    except TimeoutError:
        await ctx.call_activity(notify, input=f"nobody decided about {expense.what}, boss")
        return "escalated"
    return f"{'paid' if answer.approved else 'refused'} by {answer.by}"


def main() -> None:
    """Start two expenses, answer one of them, and wait for both."""
    with TaskHub.from_env(default="memory") as hub, TaskHubWorker(hub) as worker:
        worker.add_orchestrator(reimburse)
        worker.add_activity(notify)
        worker.start()

        client = TaskHubClient(hub)
        bicycle = client.schedule_new_orchestration(reimburse, input=Expense("a bicycle", 65_000, 3600))
        # Raised before the orchestration waits for it, or after: it is kept until then.
        client.raise_orchestration_event(bicycle, "decision", data=Answer(approved=True, by="Kim"))
        state = client.wait_for_orchestration_completion(bicycle, timeout=30)
        print("bicycle:", state and state.get_output())

        yacht = client.schedule_new_orchestration(reimburse, input=Expense("a yacht", 90_000_000, 0.5))
        state = client.wait_for_orchestration_completion(yacht, timeout=30)
        print("yacht:", state and state.get_output())


if __name__ == "__main__":
    main()

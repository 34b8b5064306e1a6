"""Work is split over many activities at once; a part that fails is tried again, alone."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any

from durabletask_azure import (
    ActivityContext,
    OrchestrationContext,
    RetryPolicy,
    Task,
    TaskHub,
    TaskHubClient,
    TaskHubWorker,
    when_all,
)

_seen: set[str] = set()


def count_words(ctx: ActivityContext, line: str) -> int:
    """Count the words of a line. The first attempt at every line with a comma fails."""
    if "," in line and line not in _seen:
        _seen.add(line)
        raise ConnectionError("the network is down")
    return len(line.split())


def total(ctx: OrchestrationContext, lines: list[str]) -> Generator[Task[Any], Any, int]:
    """The other way to write an orchestrator: a generator that yields what it waits for."""
    patience = RetryPolicy(first_retry_interval=timedelta(milliseconds=50), max_number_of_attempts=3)
    counts: list[int] = yield when_all(
        [ctx.call_activity(count_words, input=line, retry_policy=patience) for line in lines]
    )
    return sum(counts)


def main() -> None:
    """Count the words of a hundred lines."""
    lines = [
        f"this is line {n}, and it has a comma" if n % 10 == 0 else f"this is line {n}" for n in range(100)
    ]
    with TaskHub.from_env(default="memory") as hub, TaskHubWorker(hub) as worker:
        worker.add_orchestrator(total)
        worker.add_activity(count_words)
        worker.start()

        client = TaskHubClient(hub)
        instance_id = client.schedule_new_orchestration(total, input=lines)
        state = client.wait_for_orchestration_completion(instance_id, timeout=30)
        print("words:", state and state.get_output())
        print("lines that failed once:", len(_seen))


if __name__ == "__main__":
    main()

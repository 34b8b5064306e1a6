"""Activities that run in worker processes, and what they need there."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

from durabletask_azure import ActivityContext, JsonDataConverter, NonRetriableError


class Odd(Exception):
    """An error with a field of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{number} is odd")
        self.number = number


class NumberOf:
    """Keeps the number with the failure."""

    def get_exception_properties(self, exception: Exception) -> dict[str, Any] | None:
        return {"number": exception.number} if isinstance(exception, Odd) else None


class Shouting(JsonDataConverter):
    """Another way to write text."""

    def serialize(self, value: Any) -> str | None:
        return super().serialize(value.upper() if isinstance(value, str) else value)


def add_up(ctx: ActivityContext, numbers: list[int]) -> int:
    return sum(numbers)


def tell_process(ctx: ActivityContext, _: Any) -> int:
    return os.getpid()


def tell_context(ctx: ActivityContext, _: Any) -> list[Any]:
    return [
        *(ctx.orchestration_id, ctx.task_id, ctx.name, ctx.execution_id, ctx.version),
        *(ctx.delivery_count, ctx.idempotency_key),
    ]


def fail(ctx: ActivityContext, number: int) -> None:
    try:
        raise KeyError("cause")
    except KeyError as error:
        raise Odd(number) from error


def refuse(ctx: ActivityContext, _: Any) -> None:
    raise NonRetriableError("never")


def leave(ctx: ActivityContext, _: Any) -> None:
    sys.exit(3)


def shout(ctx: ActivityContext, word: str) -> str:
    return word


async def think(ctx: ActivityContext, number: int) -> int:
    await asyncio.sleep(0)
    return number + 1


async def give_up(ctx: ActivityContext, _: Any) -> None:
    raise asyncio.CancelledError


class Doubling:
    """An activity as a class."""

    def run(self, ctx: ActivityContext, number: int) -> int:
        return 2 * number


def die_at_first(ctx: ActivityContext, file: str) -> int:
    """End the process the first time."""
    if ctx.delivery_count == 1:
        Path(file).write_text(str(os.getpid()), encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    return ctx.delivery_count


def always_die(ctx: ActivityContext, _: Any) -> None:
    os._exit(7)


def hold(ctx: ActivityContext, folder: str) -> str:
    """Say that it runs, and end when the file `go` is there."""
    written = Path(folder, "pid.new")
    written.write_text(str(os.getpid()), encoding="utf-8")
    written.rename(Path(folder, "pid"))  # never there without its text
    while not Path(folder, "go").exists():
        pass
    return "held"


def run_process_of_its_own(ctx: ActivityContext, method: str) -> list[int]:
    """Run two processes: a pool's, which ends, and one that has to be ended."""
    context: Any = multiprocessing.get_context(method)
    with context.Pool(1) as pool:
        answer: int = pool.apply(int, ("5",))
    process = context.Process(target=signal.pause)
    process.start()
    process.terminate()
    process.join()
    return [answer, process.exitcode]

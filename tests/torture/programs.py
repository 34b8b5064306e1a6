"""What the torture runs: orchestrations of every kind, each with a result that can be computed beforehand.

An activity's run is a line in a file of its process, outside the hub, with a token made for this run. What an
orchestration returns names the tokens it was given, so a result can be traced to the runs it came from.

Version 2.0 of `chain` has one step more than 1.0: which code ran shows in the result.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
import uuid
import zlib
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from durabletask_azure import (
    ActivityContext,
    OrchestrationContext,
    RetryPolicy,
    TaskHubWorker,
    VersionFailureStrategy,
    VersioningOptions,
    VersionMatchStrategy,
    when_all,
)

OLD: Final = "1.0"
NEW: Final = "2.0"
MODULUS: Final = 1_000_003
TICK: Final = "tick"
KINDS: Final = ("chain", "fan", "family", "timers", "events", "eternal", "retries", "answerer", "halted")
CHILD: Final = "~"
Token = tuple[str, str, str]
"""Instance, step and token of an activity's run."""


@dataclass(frozen=True)
class Order:
    """The input of an orchestration: how much there is to do, and what with."""

    value: int
    count: int = 1
    pause_ms: int = 0
    pad_bytes: int = 0
    partner: str = ""
    heard: tuple[int, ...] = ()
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Step:
    """The input of an activity."""

    label: str
    value: int
    fail_times: int = 0
    pad: str = ""


@dataclass(frozen=True)
class Outcome:
    """What an orchestration returns."""

    value: int
    tokens: tuple[Token, ...]
    heard: tuple[int, ...] = ()


def stepped(value: int, label: str) -> int:
    """Return what a step makes of a value."""
    return (value * 31 + zlib.crc32(label.encode())) % MODULUS


# ------------------------------------------------------------------ activities


class Run(msgspec.Struct, frozen=True):
    """One run of an activity, as its process noted it when it began."""

    at: float
    pid: int
    instance: str
    key: str
    label: str
    value: int
    token: str


class Activities:
    """Every public method becomes an activity. `folder` takes one file of lines per process."""

    def __init__(self, folder: Path, speed_s: float = 0.0) -> None:
        self._folder = folder
        self._speed_s = speed_s

    def step(self, ctx: ActivityContext, step: Step) -> dict[str, Any]:
        """Return the value after the step, and the token of this run."""
        token = self._note(ctx, step)
        if self._speed_s:
            time.sleep(self._speed_s)
        return {"value": stepped(step.value, step.label), "token": token, "pad": step.pad}

    async def step_async(self, ctx: ActivityContext, step: Step) -> dict[str, Any]:
        """Do the same in a coroutine."""
        token = self._note(ctx, step)
        await asyncio.sleep(self._speed_s)
        return {"value": stepped(step.value, step.label), "token": token, "pad": step.pad}

    def flaky(self, ctx: ActivityContext, step: Step) -> dict[str, Any]:
        """Fail the first `fail_times` calls; a call that is run again after a crash does as it did before."""
        token = self._note(ctx, step)
        calls = self._folder / f"flaky-{ctx.orchestration_id}-{step.label}"
        _append(calls, ctx.idempotency_key.encode())
        order = list(dict.fromkeys(calls.read_text().splitlines()))
        if order.index(ctx.idempotency_key) < step.fail_times:
            raise ConnectionError("not this time")
        return {"value": stepped(step.value, step.label), "token": token, "pad": step.pad}

    def hold(self, ctx: ActivityContext, step: Step) -> dict[str, Any]:
        """Run until the file `go` is in the folder, or `go-` with the token of this run."""
        token = self._note(ctx, step)
        while not any((self._folder / name).exists() for name in ("go", f"go-{token}")):
            time.sleep(0.02)
        (self._folder / f"held-{token}").touch()
        return {"value": stepped(step.value, step.label), "token": token, "pad": step.pad}

    def deadly(self, ctx: ActivityContext, step: Step) -> None:
        """Take the process along."""
        self._note(ctx, step)
        os.kill(os.getpid(), signal.SIGKILL)

    def _note(self, ctx: ActivityContext, step: Step) -> str:
        token = uuid.uuid4().hex
        run = Run(
            time.time(),
            os.getpid(),
            ctx.orchestration_id,
            ctx.idempotency_key,
            step.label,
            step.value,
            token,
        )
        _append(self._folder / f"runs-{os.getpid()}.jsonl", msgspec.json.encode(run))
        return token


def _append(path: Path, line: bytes) -> None:
    """Append a line in one write: a process that is killed leaves all of it or nothing."""
    file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.write(file, line + b"\n")
    finally:
        os.close(file)


# ------------------------------------------------------------------ orchestrations


class Walk:
    """A value on its way through the steps of one execution."""

    def __init__(self, ctx: OrchestrationContext, order: Order) -> None:
        self.ctx = ctx
        self.value = order.value
        self.tokens = list(order.tokens)

    async def step(self, label: str, activity: str = "step", **more: Any) -> None:
        """Take one step."""
        policy = None
        if activity == "flaky":
            policy = RetryPolicy(first_retry_interval=timedelta(milliseconds=20), max_number_of_attempts=20)
        answer = await self.ctx.call_activity(
            activity, input=asdict(Step(label, self.value, **more)), retry_policy=policy
        )
        self.take(label, answer)

    def take(self, label: str, answer: dict[str, Any]) -> None:
        """Take what a step returned."""
        self.value = int(answer["value"])
        self.tokens.append((self.ctx.instance_id, label, answer["token"]))

    def outcome(self, heard: list[int] | None = None) -> dict[str, Any]:
        """Return what the orchestration returns."""
        return asdict(Outcome(self.value, tuple(self.tokens), tuple(heard or ())))


async def chain(ctx: OrchestrationContext, order: Order) -> dict[str, Any]:
    """Take steps one after the other."""
    walk = Walk(ctx, order)
    for number in range(order.count):
        activity = "step_async" if number % 2 else "step"
        await walk.step(str(number), activity, pad="x" * order.pad_bytes)
    return walk.outcome()


async def chain_of_two(ctx: OrchestrationContext, order: Order) -> dict[str, Any]:
    """Take them as version 2.0 does."""
    walk = Walk(ctx, order)
    for number in range(order.count):
        await walk.step(str(number), pad="x" * order.pad_bytes)
    await walk.step("new")
    return walk.outcome()


async def fan(ctx: OrchestrationContext, order: Order) -> dict[str, Any]:
    """Take steps side by side and add up."""
    walk = Walk(ctx, order)
    calls = [
        ctx.call_activity(
            "step", input=asdict(Step(str(number), order.value + number, pad="x" * order.pad_bytes))
        )
        for number in range(order.count)
    ]
    answers: list[dict[str, Any]] = await when_all(calls)
    total = 0
    for number, answer in enumerate(answers):
        walk.take(str(number), answer)
        total += walk.value
    walk.value = total % MODULUS
    return walk.outcome()


async def family(ctx: OrchestrationContext, order: Order) -> dict[str, Any]:
    """Leave it to children and add up."""
    walk = Walk(ctx, order)
    calls = [
        ctx.call_sub_orchestrator(
            chain,
            input=Order(order.value + number, count=2),
            instance_id=f"{ctx.instance_id}{CHILD}{number}",
            version=ctx.version,
        )
        for number in range(order.count)
    ]
    answers: list[dict[str, Any]] = await when_all(calls)
    total = 0
    for answer in answers:
        outcome = msgspec.convert(answer, Outcome)
        walk.tokens += outcome.tokens
        total += outcome.value
    walk.value = total % MODULUS
    return walk.outcome()


async def timers(ctx: OrchestrationContext, order: Order) -> dict[str, Any]:
    """Pause between steps, and see that no pause is cut short."""
    walk = Walk(ctx, order)
    await walk.step("0")
    for number in range(1, order.count):
        due = ctx.current_utc_datetime + timedelta(milliseconds=order.pause_ms)
        await ctx.create_timer(due)
        if ctx.current_utc_datetime < due:
            raise AssertionError(f"a timer was early: {ctx.current_utc_datetime} is before {due}")
        await walk.step(str(number))
    return walk.outcome()


async def events(ctx: OrchestrationContext, order: Order) -> dict[str, Any]:
    """Listen to a number of events, in whichever order they come, and take a step."""
    walk = Walk(ctx, order)
    heard: list[int] = []
    for _ in range(order.count):
        heard.append(await ctx.wait_for_external_event(TICK, data_type=int))
    walk.value += sum(heard)
    await walk.step("0")
    return walk.outcome(heard)


async def eternal(ctx: OrchestrationContext, order: Order) -> dict[str, Any] | None:
    """Listen to one event and take one step in each generation; other events wait for the next one."""
    walk = Walk(ctx, order)
    told = await ctx.wait_for_external_event(TICK, data_type=int)
    heard = [*order.heard, told]
    walk.value += told
    await walk.step(str(len(order.heard)))
    if len(heard) < order.count:
        going_on = Order(walk.value, order.count, heard=tuple(heard), tokens=tuple(walk.tokens))
        ctx.continue_as_new(going_on, save_events=True)
        return None
    return walk.outcome(heard)


async def retries(ctx: OrchestrationContext, order: Order) -> dict[str, Any]:
    """Insist on a step that fails a number of times."""
    walk = Walk(ctx, order)
    await walk.step("0", "flaky", fail_times=order.count)
    return walk.outcome()


async def asker(ctx: OrchestrationContext, order: Order) -> dict[str, Any]:
    """Take a step and tell a partner, who may not be there yet."""
    walk = Walk(ctx, order)
    await walk.step("0")
    ctx.send_event(order.partner, TICK, data=walk.value)
    return walk.outcome()


async def answerer(ctx: OrchestrationContext, order: Order) -> dict[str, Any]:
    """Listen to the partner and take a step with what it said."""
    walk = Walk(ctx, order)
    told = await ctx.wait_for_external_event(TICK, data_type=int)
    walk.value = told
    await walk.step("0")
    return walk.outcome([told])


async def held(ctx: OrchestrationContext, order: Order) -> dict[str, Any]:
    """Take a step, one that lasts until it is let go of, and another."""
    walk = Walk(ctx, order)
    await walk.step("0", pad="x" * order.pad_bytes)
    await walk.step("1", "hold")
    await walk.step("2")
    return walk.outcome()


async def deadly(ctx: OrchestrationContext, order: Order) -> None:
    """Take the process along: by itself, or by an activity if there is a partner."""
    if order.partner:
        await Walk(ctx, order).step("0", "deadly")
    os.kill(os.getpid(), signal.SIGKILL)


def _block_once(path: Path, seconds: float) -> None:
    if not path.exists():
        path.touch()
        threading.Event().wait(seconds)


async def blocking(ctx: OrchestrationContext, order: Order) -> dict[str, Any]:
    """Block the loop it runs on, in the first process that runs it."""
    _block_once(Path(order.partner), order.pause_ms / 1000)
    walk = Walk(ctx, order)
    await walk.step("0")
    return walk.outcome()


async def halted(ctx: OrchestrationContext, order: Order) -> None:
    """Take a step and wait for what does not come, until somebody terminates it."""
    walk = Walk(ctx, order)
    await walk.step("0")
    await ctx.wait_for_external_event("never")


ORCHESTRATIONS: Final = (
    fan,
    family,
    timers,
    events,
    eternal,
    retries,
    asker,
    answerer,
    held,
    halted,
    deadly,
    blocking,
)


def register(worker: TaskHubWorker, version: str, folder: Path, speed_s: float = 0.0) -> None:
    """Register all of it, as a worker of that version does: it runs its own version and every earlier one."""
    worker.add_orchestrator(chain, name="chain", version=OLD)
    if version == NEW:
        worker.add_orchestrator(chain_of_two, name="chain", version=NEW)
    for orchestration in ORCHESTRATIONS:
        worker.add_orchestrator(orchestration)
    worker.add_activities_from(Activities(folder, speed_s))
    worker.use_versioning(
        VersioningOptions(
            version=version,
            match_strategy=VersionMatchStrategy.CURRENT_OR_OLDER,
            failure_strategy=VersionFailureStrategy.REJECT,
        )
    )

"""Generator, model and interpreter against each other, on a toy of the framework that never fails and never replays."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tests.simulation.fakes.world import EPOCH
from tests.simulation.interpreter import Harness, Toolbox, start_input
from tests.simulation.model import Expected, expect
from tests.simulation.programs import (
    Call,
    Case,
    FanOut,
    Program,
    Race,
    RaiseEvent,
    Start,
    SubCall,
    Tell,
    Terminate,
    WaitEvents,
    generate,
)
from tests.simulation.virtual_time import pause, pause_until, run_virtual


class ToyFailure(Exception):
    """A failed task."""


class ToyTask(asyncio.Future[Any]):
    """A future with the durable task's names."""

    def get_result(self) -> Any:
        return self.result()


@dataclass(slots=True)
class ToyActivityContext:
    orchestration_id: str
    task_id: int


@dataclass(slots=True)
class ToyRetry:
    first_retry_interval: timedelta
    max_number_of_attempts: int


@dataclass(slots=True)
class Toy:
    """Runs instances in memory."""

    harness: Harness
    results: dict[str, Expected] = field(default_factory=dict[str, Expected])
    events: defaultdict[tuple[str, str], asyncio.Queue[int]] = field(
        default_factory=lambda: defaultdict[tuple[str, str], asyncio.Queue[int]](asyncio.Queue)
    )
    running: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    numbers: int = 0

    def spawn(self, instance: str, data: dict[str, int]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self.run(instance, data))
        self.running.append(task)
        return task

    async def run(self, instance: str, data: dict[str, int]) -> None:
        status: str | None = None
        while True:
            ctx = ToyContext(self, instance, status)
            program = self.harness.case.programs[data["program"]]
            try:
                if program.style == "async":
                    result = await self.harness.orchestrate_async(ctx, data)
                else:
                    result = await drive(self.harness.orchestrate_generator(ctx, data))
            except Exception as error:
                self.results[instance] = Expected("FAILED", error=str(error), custom_status=ctx.status)
                return
            status = ctx.status
            if ctx.following is None:
                self.results[instance] = Expected("COMPLETED", result=result, custom_status=status)
                return
            data = ctx.following


async def drive(steps: Any) -> Any:
    value, error = None, None
    while True:
        try:
            waiting = steps.throw(error) if error is not None else steps.send(value)
        except StopIteration as stop:
            return stop.value
        value, error = None, None
        try:
            value = await waiting
        except Exception as raised:
            error = raised


class ToyContext:
    """The few names of the orchestration context the interpreter uses."""

    def __init__(self, toy: Toy, instance: str, status: str | None) -> None:
        self._toy = toy
        self._instance = instance
        self.status = status
        self.following: dict[str, int] | None = None

    @property
    def current_utc_datetime(self) -> datetime:
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())

    def _task(self, coroutine: Any) -> ToyTask:
        loop = asyncio.get_running_loop()
        future = ToyTask(loop=loop)

        async def run() -> None:
            try:
                result = await coroutine
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self._toy.running.append(loop.create_task(run()))
        return future

    def call_activity(self, name: str, *, input: list[int], retry_policy: ToyRetry | None) -> ToyTask:
        return self._task(self._work(input, retry_policy.max_number_of_attempts if retry_policy else 1))

    async def _work(self, data: list[int], attempts: int) -> Any:
        for attempt in range(1, attempts + 1):
            self._toy.numbers += 1
            try:
                return await self._toy.harness.work(
                    ToyActivityContext(self._instance, self._toy.numbers), data
                )
            except Exception as error:
                if attempt == attempts:
                    raise ToyFailure(str(error)) from error

    def call_sub_orchestrator(self, name: str, *, input: dict[str, int], instance_id: str | None) -> ToyTask:
        self._toy.numbers += 1
        return self._task(self._child(instance_id or f"auto-{self._toy.numbers}", input))

    async def _child(self, instance: str, data: dict[str, int]) -> int | None:
        await self._toy.spawn(instance, data)
        outcome = self._toy.results[instance]
        if outcome.status == "FAILED":
            raise ToyFailure(outcome.error)
        return outcome.result

    def create_timer(self, fire_at: datetime | timedelta) -> ToyTask:
        due = fire_at if isinstance(fire_at, datetime) else self.current_utc_datetime + fire_at
        return self._task(pause_until((due - EPOCH).total_seconds() + 1e-6))

    def wait_for_external_event(self, name: str) -> ToyTask:
        return self._task(self._toy.events[self._instance, name].get())

    def send_event(self, instance: str, name: str, *, data: int) -> None:
        self._toy.events[instance, name].put_nowait(data)

    def set_custom_status(self, status: str) -> None:
        self.status = status

    def continue_as_new(self, data: dict[str, int], *, save_events: bool) -> None:
        assert save_events
        self.following = data


async def when_any(tasks: Sequence[Any]) -> Any:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return next(task for task in tasks if task in done)


def play(case: Case) -> dict[str, Expected]:
    """Run a case on the toy; instances that are to be terminated are left out."""
    doomed = {action.instance for action in case.client if isinstance(action, Terminate)}

    async def main() -> dict[str, Expected]:
        loop = asyncio.get_running_loop()
        tools = Toolbox(
            when_all=lambda tasks: asyncio.gather(*tasks),
            when_any=when_any,
            retry_policy=ToyRetry,
            task_failed=ToyFailure,
        )
        toy = Toy(Harness(case, tools, pause, lambda: "toy", lambda _instance: None, loop.time))
        for action in case.client:
            await pause_until(action.at)
            if isinstance(action, Start) and action.instance not in doomed:
                toy.spawn(action.instance, start_input(action.program))
            elif isinstance(action, RaiseEvent):
                toy.events[action.instance, action.name].put_nowait(action.value)
        while any(
            action.instance not in toy.results for action in case.client if action.instance not in doomed
        ):
            await asyncio.wait(
                [task for task in toy.running if not task.done()], return_when=asyncio.FIRST_COMPLETED
            )
        await pause(10_000)
        return toy.results

    return run_virtual(main, turns_max=100_000)


def test_the_interpreter_gives_what_the_model_expects() -> None:
    compared = 0
    for seed in range(150):
        case = generate(seed)
        expected, played = expect(case), play(case)
        for instance, wanted in expected.items():
            if wanted.status == "TERMINATED" or wanted.optional:
                continue
            assert played[instance] == wanted, (seed, instance)
            compared += 1
    assert compared > 200


def test_a_case_is_data_and_the_same_for_the_same_seed() -> None:
    for seed in range(50):
        case = generate(seed)
        assert msgspec.json.decode(msgspec.json.encode(case), type=Case) == case == generate(seed)


def test_the_generator_uses_every_kind_of_step_and_action() -> None:
    kinds: set[str] = set()
    for seed in range(300):
        case = generate(seed)
        kinds |= {type(action).__name__ for action in case.client}
        for program in case.programs:
            kinds |= {type(step).__name__ for step in program.steps} | {
                program.style,
                f"x{program.generations}",
            }
    assert kinds >= {
        *("Call", "FanOut", "Race", "Pause", "WaitEvents", "WaitTimeout", "SubCall", "Detached", "Tell"),
        *("SetStatus", "Raise", "Parallel", "Start", "RaiseEvent", "Suspend", "Resume", "Terminate"),
        *("async", "generator", "x1", "x2", "x4"),
    }


def test_the_model_knows_failures_races_events_and_children() -> None:
    child = Program(steps=(Call(site=4, arg=1, failures=9, caught=True),))
    root = Program(
        steps=(
            FanOut(calls=(Call(site=1, arg=1), Call(site=2, arg=2))),
            Race(call=Call(site=3, arg=3), timer_s=1.0),
            WaitEvents(name="news", count=2),
            SubCall(program=0, instance="r0-c1"),
        )
    )
    teller = Program(steps=(Tell(instance="r0", name="news", value=21), Call(site=9, arg=1, failures=1)))
    case = Case(
        programs=(child, root, teller),
        client=(
            Start(at=0, instance="r0", program=1),
            Start(at=0, instance="r1", program=2),
            RaiseEvent(at=1, instance="r0", name="news", value=21, key="k"),
        ),
    )
    expected = expect(case)
    assert expected["r1"] == Expected("FAILED", error="boom-9")
    assert expected["r0-c1"].status == expected["r0"].status == "COMPLETED"
    assert play(case) == expected

"""The one orchestrator that runs any program of a case, as ``async def`` and as a generator, and the one activity.

The interpreter is a generator over the public orchestration context; the ``async def`` form awaits what it yields and
uses asyncio's own combinators, the generator form hands it to the framework and uses ``when_all`` and ``when_any``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.model import BAD, CAUGHT, OK, activity_value, mix
from tests.simulation.programs import (
    Call,
    Case,
    Detached,
    FanOut,
    Kill,
    Parallel,
    Pause,
    Program,
    Race,
    Raise,
    SetStatus,
    Step,
    SubCall,
    Tell,
    WaitEvents,
    WaitTimeout,
)

__all__ = ["ACTIVITY", "LIFE", "ORCHESTRATORS", "Execution", "Harness", "Toolbox", "start_input"]

LIFE = 1_000
"""Generations of a second life are numbered from here on."""
ACTIVITY = "work"
ORCHESTRATORS = {"async": "sim_async", "generator": "sim_generator"}

Steps = Generator[Any, Any, int]


class Boom(Exception):
    """What activities and programs fail with."""


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The product's names the interpreter needs, handed in so that it can be run without the product."""

    when_all: Callable[[Sequence[Any]], Any]
    when_any: Callable[[Sequence[Any]], Any]
    retry_policy: Callable[..., Any]
    task_failed: type[Exception]


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of an activity."""

    gate: str
    instance: str
    task_id: int
    site: int
    generation: int
    finished: bool
    at: float


def start_input(program: int, life: int = 0) -> dict[str, int]:
    """Return the input an instance of ``program`` is started with; ``life`` counts the lives of its id."""
    return {"program": program, "number": 1, "generation": 0, "life": life}


@dataclass(slots=True)
class Harness:
    """A case ready to run: its orchestrators and activity; ``executions`` is the log of the activity."""

    case: Case
    tools: Toolbox
    pause: Callable[[float], Awaitable[None]]
    gate: Callable[[], str]
    kill: Callable[[str], None]
    """Ends the worker whose code this is, over an instance: does not return."""
    time: Callable[[], float]
    executions: list[Execution] = field(default_factory=list[Execution])
    _attempts: dict[tuple[str, int, int], list[int]] = field(
        default_factory=dict[tuple[str, int, int], list[int]]
    )

    def of_worker(self, kill: Callable[[str], None]) -> Harness:
        """Return the same harness, with the same log, as the code of the worker that ``kill`` ends.

        An orchestrator runs in an empty context, as it should, and cannot find its worker by itself.
        """
        return replace(self, kill=kill)

    async def orchestrate_async(self, ctx: Any, data: dict[str, int]) -> int | None:
        """The interpreter as an ``async def`` orchestrator."""
        return await _drive(_Interpreter(ctx, self, data, asynchronous=True).run())

    def orchestrate_generator(self, ctx: Any, data: dict[str, int]) -> Generator[Any, Any, int | None]:
        """The interpreter as a generator orchestrator."""
        return (yield from _Interpreter(ctx, self, data, asynchronous=False).run())

    async def work(self, ctx: Any, data: list[Any]) -> dict[str, Any]:
        """The activity: takes its time, fails its first attempts (each attempt has a task id of its own)."""
        site, arg, cost_ms, failures, generation, pad, kills, *until_s = data
        fails = any(self.time() < end for end in until_s)
        instance, task_id = ctx.orchestration_id, ctx.task_id
        attempts = self._attempts.setdefault((instance, site, generation), [])
        if task_id not in attempts:
            attempts.append(task_id)
        self._log(instance, task_id, site, generation, finished=False)
        if cost_ms:
            await self.pause(cost_ms / 1000)
        if kills:
            self.kill(instance)
        self._log(instance, task_id, site, generation, finished=True)
        if fails or attempts.index(task_id) < failures:
            raise Boom(f"boom-{site}")
        return {"value": activity_value(site, arg), "pad": "x" * pad}

    def _log(self, instance: str, task_id: int, site: int, generation: int, *, finished: bool) -> None:
        self.executions.append(
            Execution(self.gate(), instance, task_id, site, generation, finished=finished, at=self.time())
        )


async def _drive(steps: Steps) -> int:
    """Run an interpreter by awaiting what it yields."""
    value: Any = None
    error: Exception | None = None
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


class _Interpreter:
    def __init__(self, ctx: Any, harness: Harness, data: dict[str, int], *, asynchronous: bool) -> None:
        self._ctx = ctx
        self._case = case = harness.case
        self._tools = harness.tools
        self._kill = harness.kill
        self._data = data
        self._async = asynchronous
        self._program: Program = case.programs[data["program"]]

    def run(self) -> Generator[Any, Any, Any]:
        number = self._data["number"]
        for step in self._program.steps:
            number = mix(number, (yield from self._step(step)))
        generation = self._data["generation"] + 1
        if generation < self._program.generations:
            following = {**self._data, "number": number, "generation": generation}
            self._ctx.continue_as_new(following, save_events=True)
            return None
        return number

    def _step(self, step: Step) -> Steps:
        match step:
            case Call():
                return (yield from self._call(step))
            case FanOut(calls=calls):
                results = yield self._all([self._activity(call) for call in calls])
                return _fold([result["value"] for result in results])
            case Race():
                return (yield from self._race(step))
            case Pause(seconds=seconds):
                return (yield from self._pause(seconds))
            case WaitEvents(name=name, count=count):
                total = 0
                for _ in range(count):
                    total += yield self._ctx.wait_for_external_event(name)
                return total
            case WaitTimeout():
                return (yield from self._wait_timeout(step))
            case SubCall():
                return (yield from self._sub_call(step))
            case Detached(program=program, instance=instance):
                self._child(program, instance)
                return OK
            case Tell(instance=instance, name=name, value=value):
                self._ctx.send_event(instance, name, data=value)
                return OK
            case SetStatus(text=text):
                self._ctx.set_custom_status(text)
                return OK
            case Raise(site=site):
                raise Boom(f"boom-{site}")
            case Kill():
                self._kill(self._ctx.instance_id)
                return BAD
            case Parallel(branches=branches):
                return (yield from self._parallel(branches))

    def _activity(self, call: Call) -> Any:
        retry = None
        if call.attempts > 1:
            retry = self._tools.retry_policy(
                first_retry_interval=timedelta(seconds=1), max_number_of_attempts=call.attempts
            )
        generation = self._data["generation"] + LIFE * self._data["life"]
        data: list[float] = [
            call.site,
            call.arg,
            call.cost_ms,
            call.failures,
            generation,
            call.pad,
            int(call.kills),
        ]
        if call.until_s:
            data.append(call.until_s)
        return self._ctx.call_activity(ACTIVITY, input=data, retry_policy=retry)

    def _call(self, call: Call) -> Steps:
        try:
            result = yield self._activity(call)
        except self._tools.task_failed as error:
            if not call.caught:
                raise
            return CAUGHT if f"boom-{call.site}" in str(error) else BAD
        return result["value"]

    def _child(self, program: int, instance: str) -> Any:
        name = ORCHESTRATORS[self._case.programs[program].style]
        return self._ctx.call_sub_orchestrator(name, input=start_input(program), instance_id=instance or None)

    def _sub_call(self, step: SubCall) -> Steps:
        try:
            return (yield self._child(step.program, step.instance))
        except self._tools.task_failed:
            if not step.caught:
                raise
            return CAUGHT

    def _pause(self, seconds: float) -> Steps:
        fire_at = self._now() + timedelta(seconds=seconds)
        yield self._ctx.create_timer(timedelta(seconds=seconds))
        return OK if self._now() >= fire_at else BAD

    def _race(self, step: Race) -> Steps:
        fire_at = self._now() + timedelta(seconds=step.timer_s)
        work = self._activity(step.call)
        timer = self._ctx.create_timer(fire_at)
        winner = yield from self._first([work, timer])
        if winner is work:
            timer.cancel()
            right = work.get_result()["value"]
            return OK if right == activity_value(step.call.site, step.call.arg) else BAD
        return OK if self._now() >= fire_at else BAD

    def _wait_timeout(self, step: WaitTimeout) -> Steps:
        fire_at = self._now() + timedelta(seconds=step.seconds)
        if self._async:
            try:
                value = yield asyncio.wait_for(self._ctx.wait_for_external_event(step.name), step.seconds)
            except TimeoutError:
                return OK if self._now() >= fire_at else BAD
            return OK if value == step.value else BAD
        event = self._ctx.wait_for_external_event(step.name)
        timer = self._ctx.create_timer(fire_at)
        winner = yield from self._first([event, timer])
        if winner is event:
            timer.cancel()
            return OK if event.get_result() == step.value else BAD
        return OK if self._now() >= fire_at else BAD

    def _first(self, tasks: list[Any]) -> Generator[Any, Any, Any]:
        if not self._async:
            return (yield self._tools.when_any(tasks))
        done, _pending = yield asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done)

    def _all(self, tasks: list[Any]) -> Any:
        return asyncio.gather(*tasks) if self._async else self._tools.when_all(tasks)

    def _parallel(self, branches: Sequence[Sequence[Step]]) -> Steps:
        if self._async:
            numbers = yield asyncio.gather(*(_drive(self._branch(branch)) for branch in branches))
            return _fold(numbers)
        numbers: list[int] = []
        for branch in branches:
            numbers.append((yield from self._branch(branch)))
        return _fold(numbers)

    def _branch(self, branch: Sequence[Step]) -> Steps:
        values: list[int] = []
        for step in branch:
            values.append((yield from self._step(step)))
        return _fold(values)

    def _now(self) -> datetime:
        return self._ctx.current_utc_datetime


def _fold(values: Sequence[int]) -> int:
    number = 1
    for value in values:
        number = mix(number, value)
    return number

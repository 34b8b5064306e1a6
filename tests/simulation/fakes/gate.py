"""The gate every port call of one worker passes: here calls are counted, delayed, and hit by faults.

A gate belongs to one incarnation of a worker (or to a client). Each call has a running number and a name. A fault may
strike before the effect on the world, after it (done, but the reply is lost), or instead of it. A crash ends the
worker: its tasks are cancelled and from then on every call raises :class:`SimulatedCrash`; what it held in the world
stays locked until the locks expire. A stall freezes the worker: no call begins, no reply arrives, no sleep ends until
it is over, while the world goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from durabletask_azure.errors import HubUnavailableError, QueueFullError, ThrottledError
from tests.simulation.virtual_time import pause, pause_until

if TYPE_CHECKING:
    from tests.simulation.fakes.world import World

__all__ = ["CURRENT_GATE", "Fault", "FaultSource", "Gate", "NoFaults", "SimulatedCrash"]

T = TypeVar("T")

CURRENT_GATE: ContextVar[Gate | None] = ContextVar("current_gate", default=None)
"""The gate whose worker the running task belongs to: inherited by every task it creates."""


class SimulatedCrash(BaseException):
    """The worker that made this call is dead."""


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One injected fault.

    Kinds, by when they strike. Before the effect: ``crash_before``, ``unavailable``, ``throttled`` (``seconds``:
    retry after), ``full``, ``delay``, ``hang`` (a
    delay that outlasts every patience), ``stall`` (``seconds`` each). Instead of or inside it: ``partial`` (``count``
    packs are sent, or tasks) and ``crash_partial``, ``swallow`` (``count`` messages are locked and not returned),
    ``settle_lost``. After it: ``crash_after``, ``reply_lost``, ``landed`` (the SDK's own retry of a call that landed
    answers as if a rival had been faster), ``slow``, ``stall_after``.
    """

    kind: str
    seconds: float = 0.0
    count: int = 0


class FaultSource(Protocol):
    """Decides which call is hit by which fault."""

    def draw(self, gate: str, number: int, op: str, now: float) -> Fault | None:
        """Return the fault for call ``number`` of ``gate``, an ``op`` at virtual time ``now``."""
        ...


class NoFaults:
    """Hits nothing."""

    def draw(self, gate: str, number: int, op: str, now: float) -> Fault | None:
        """Return no fault."""
        return None


class Gate:
    """Calls of one worker's incarnation on the world.

    ``latency_s`` bounds the drawn time before an effect; a third of the calls also wait before the reply. The worker's
    own clock is ``skew`` seconds off, at the time given.
    """

    def __init__(
        self,
        world: World,
        name: str,
        faults: FaultSource,
        *,
        seed: int = 0,
        latency_s: float = 0.02,
        skew: Callable[[float], float] | None = None,
    ) -> None:
        self.world = world
        self.name = name
        self.calls = 0
        self.dead = False
        self.frozen_until = 0.0
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.random = Random(f"{seed}/{name}")
        self.on_crash: Callable[[], None] | None = None
        self.faults = faults
        self._latency_s = latency_s
        self._skew = skew

    def now(self) -> datetime:
        """Return what this machine's clock shows."""
        true = self.world.now()
        return true if self._skew is None else true + timedelta(seconds=self._skew(self.world.time()))

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Count ``task`` as one of this worker's."""
        self.tasks[task] = None
        task.add_done_callback(self._forget)
        if self.dead:
            task.cancel()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task, None)

    def crash(self) -> None:
        """End this worker now, as a killed process ends."""
        if self.dead:
            return
        self.dead = True
        self.world.trace("crash", self.name)
        for task in tuple(self.tasks):
            task.cancel()
        if self.on_crash is not None:
            self.on_crash()

    def stall(self, seconds: float) -> None:
        """Freeze this worker for ``seconds``."""
        self.world.trace("stall", self.name, seconds)
        self.frozen_until = max(self.frozen_until, self.world.time() + seconds)

    async def thaw(self) -> None:
        """Wait until this worker is not frozen; raise if it is dead."""
        if self.dead:
            raise SimulatedCrash(self.name)
        while self.frozen_until > self.world.time():
            await pause_until(self.frozen_until)
            if self.dead:
                raise SimulatedCrash(self.name)

    async def sleep(self, seconds: float) -> None:
        """Let time pass for this worker."""
        if self.dead:
            raise SimulatedCrash(self.name)
        await pause(seconds)
        await self.thaw()

    async def call(
        self,
        op: str,
        effect: Callable[[], T],
        *,
        landed: Callable[[T], BaseException | None] | None = None,
    ) -> T:
        """Make one call: ``effect`` is its whole action on the world, ``landed`` what a retry of it would answer."""
        fault = await self.begin(op)
        if fault is not None and fault.kind == "settle_lost":
            return effect() if op not in _SETTLES else _nothing()
        result = effect()
        if fault is not None and fault.kind == "landed":
            error = landed(result) if landed is not None else None
            raise error or HubUnavailableError(f"{op}: the reply was lost")
        await self.end(op, fault)
        return result

    async def begin(self, op: str) -> Fault | None:
        """Count the call, let its time pass, apply what strikes before the effect; return what is to come after."""
        await self.thaw()
        world = self.world
        number = self.calls
        self.calls += 1
        fault = self.faults.draw(self.name, number, op, world.time())
        world.trace("call", self.name, number, op, fault.kind if fault is not None else "")
        if self._latency_s:
            await pause(self.random.random() * self._latency_s)
        if fault is not None:
            await self._strike_before(op, fault)
        await self.thaw()
        broken = world.outage(self.name, op)
        if broken is not None:
            raise broken
        return fault

    async def _strike_before(self, op: str, fault: Fault) -> None:
        match fault.kind:
            case "crash_before":
                self.crash()
                raise SimulatedCrash(self.name)
            case "unavailable":
                raise HubUnavailableError(f"{op}: the service did not answer")
            case "throttled":
                raise ThrottledError(f"{op}: too many requests", retry_after=timedelta(seconds=fault.seconds))
            case "full":
                raise QueueFullError(f"{op}: the queue is full")
            case "delay" | "hang":
                await pause(fault.seconds)
            case "stall":
                self.stall(fault.seconds)
            case _:
                pass

    async def end(self, op: str, fault: Fault | None) -> None:
        """Apply what strikes after the effect."""
        match fault.kind if fault is not None else "":
            case "crash_after":
                self.crash()
                raise SimulatedCrash(self.name)
            case "reply_lost" | "landed":
                raise HubUnavailableError(f"{op}: the reply was lost")
            case "slow":
                assert fault is not None
                await pause(fault.seconds)
            case "stall_after":
                assert fault is not None
                self.stall(fault.seconds)
            case _:
                if self._latency_s and self.random.random() < 0.3:
                    await pause(self.random.random() * self._latency_s)
        await self.thaw()


_SETTLES = frozenset({"session.complete", "activities.finish.complete"})
"""Calls whose effect a lost settlement leaves out."""


def _nothing() -> Any:
    return None

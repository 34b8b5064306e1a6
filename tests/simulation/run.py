"""One run: workers and a client on one world, faults until the plan heals, then recovery, purge and judgement.

The product is reached through :class:`Product` alone. A worker that crashes is started again as a new incarnation
with a gate of its own. What clients do is in ``clients``, what the world does in ``weather``, what follows the last
fault in ``aftermath``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, NoReturn, Protocol

from durabletask_azure.errors import DurableTaskError
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings
from tests.simulation.aftermath import Aftermath
from tests.simulation.clients import Clients
from tests.simulation.fakes.gate import CURRENT_GATE, FaultSource, Gate, SimulatedCrash
from tests.simulation.fakes.ports import worker_ports
from tests.simulation.fakes.world import World
from tests.simulation.faults import PROFILES, CallFault, Plan, fault_number, install, skew_of
from tests.simulation.interpreter import Harness, Toolbox
from tests.simulation.limits import ROWS_MAX, settings_of
from tests.simulation.programs import Case, ClientAction
from tests.simulation.virtual_time import Deadlock, Livelock, OutOfTime, pause, pause_until, run_virtual
from tests.simulation.weather import Weather

__all__ = ["Product", "Report", "Run", "Setup", "Worker", "execute"]

STOP_S_MAX = 300.0
"""B: the longest graceful stop, outages and stalls included."""
QUICK_STOP_S_MAX = 45.0
"""B: the longest one while nothing is wrong: the grace period, and some time to give things back (F31)."""
TURNS_MAX = 600_000


class Worker(Protocol):
    """A running engine."""

    async def stop(self) -> None:
        """Stop gracefully."""
        ...


class Product(Protocol):
    """What the simulator needs of the product."""

    def tools(self) -> Toolbox:
        """Return the names orchestrators use."""
        ...

    async def start_worker(
        self, ports: HubPorts, harness: Harness, settings: Settings, name: str, unknown: Sequence[str] = ()
    ) -> Worker:
        """Start an engine on ``ports`` that does not know the orchestrators of the styles ``unknown``."""
        ...

    async def act(self, ports: HubPorts, case: Case, action: ClientAction, settings: Settings) -> None:
        """Do one of the client's actions."""
        ...

    async def purge(self, ports: HubPorts, instance: str, settings: Settings, *, recursive: bool) -> None:
        """Ask for the removal of a terminal instance."""
        ...

    async def repair(self, ports: HubPorts, settings: Settings) -> None:
        """Send again what a lost queue took with it."""
        ...

    async def collect_orphans(self, ports: HubPorts, partition: int, older_than_s: float) -> None:
        """Delete the blobs of a partition that nobody refers to."""
        ...


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything a run depends on; ``faults`` makes the source of call faults anew for each run."""

    seed: int
    case: Case
    plan: Plan
    faults: Callable[[], FaultSource]
    workers: int = 2
    partitions: int = 2
    atomic: bool = False
    faultless: bool = False
    tracer: Callable[[float, tuple[Any, ...]], None] | None = None


@dataclass(slots=True)
class Report:
    """What a run came to: ``failures`` is empty if all invariants held."""

    seed: int
    profile: str
    failures: list[str] = field(default_factory=list[str])
    counts: Counter[str] = field(default_factory=Counter[str])
    trace_hash: str = ""
    virtual_s: float = 0.0
    turns: int = 0
    calls: int = 0
    commits: int = 0
    script: tuple[CallFault, ...] = ()

    @property
    def letters(self) -> frozenset[str]:
        """The invariants that were broken."""
        return frozenset(text.split(":")[0] for text in self.failures)


class _Complaints(logging.Handler):
    """Turns an error the product logs about itself into a breach."""

    def __init__(self, breaches: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._breaches = breaches

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(
            error, DurableTaskError | SimulatedCrash | asyncio.CancelledError
        ):
            self._breaches.append(f"BUG: {record.getMessage()}: {error!r}")


def _kill_nobody(instance: str) -> NoReturn:
    raise AssertionError(f"no worker runs the code of {instance}")


def execute(setup: Setup, product: Product) -> Report:
    """Run a setup to its end and judge it."""
    run = Run(setup, product)
    logger = logging.getLogger("durabletask_azure")
    before, propagate = logger.level, logger.propagate
    handler = _Complaints(run.breaches)
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        run_virtual(run.main, turns_max=TURNS_MAX)
    except (Deadlock, Livelock, OutOfTime) as error:
        run.report.failures.append(f"B: {type(error).__name__}: {error}")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        logger.propagate = propagate
    run.report.failures += run.breaches
    return run.report


@dataclass(slots=True)
class _Orders:
    """What a worker is told: to stop (``twice``: with a second call), and which code it has when it starts."""

    restart: asyncio.Event
    twice: bool = False
    unknown: tuple[str, ...] = ()


class Run:
    """The state of one run."""

    def __init__(self, setup: Setup, product: Product) -> None:
        self.setup = setup
        self.product = product
        self.profile = PROFILES[setup.plan.profile]
        self.settings = settings_of(setup.seed, self.profile.tight)
        self.worker_names = [f"w{number}" for number in range(setup.workers)]
        self.breaches: list[str] = []
        self.kills: Counter[str] = Counter()
        """How many workers ended over each instance."""
        self.report = Report(setup.seed, setup.plan.profile)
        self._faults = setup.faults()
        self._stopping = False
        self._orders: dict[str, _Orders] = {}
        self._gates: list[Gate] = []

    async def main(self) -> None:
        """Run everything, in virtual time."""
        setup = self.setup
        self.world = World(
            partitions=setup.partitions,
            lock_s=self.settings.lock_s,
            dedup_s=self.profile.dedup_s,
            rows_max=ROWS_MAX[self.profile.tight],
        )
        self.world.tracer = setup.tracer
        install(self.world, setup.plan, setup.seed, self.report.counts)
        self.report.counts["F22"] += len(setup.plan.skews)
        self.harness = Harness(
            setup.case, self.product.tools(), self._pause, self._gate_name, _kill_nobody, self.world.time
        )
        self.clients = Clients(self)
        self.weather = Weather(self, setup.seed)
        loop = asyncio.get_running_loop()
        workers = [loop.create_task(self._keep_running(name)) for name in self.worker_names]
        script = loop.create_task(self.clients.script())
        windows = [loop.create_task(self.weather.strike(window)) for window in setup.plan.windows]
        try:
            await asyncio.gather(script, *windows)
            await pause_until(setup.plan.heal)
            await Aftermath(self).settle()
        finally:
            self._stopping = True
            for orders in self._orders.values():
                orders.restart.set()
            await asyncio.wait(workers, timeout=600)
            self._finish(workers)

    # -------------------------------------------------------- workers
    def gate(self, name: str, *, worker: str = "") -> Gate:
        """Return a gate to the world: for a worker, with its clock's error."""
        gate = Gate(
            self.world,
            name,
            self._faults,
            seed=self.setup.seed,
            skew=skew_of(self.setup.plan, worker),
        )
        self._gates.append(gate)
        return gate

    def in_gate(self, gate: Gate, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` as part of the process behind ``gate``."""
        token = CURRENT_GATE.set(gate)
        try:
            return asyncio.get_running_loop().create_task(work)
        finally:
            CURRENT_GATE.reset(token)

    def restart(self, name: str, *, twice: bool = False, unknown: tuple[str, ...] = ()) -> None:
        """Have a worker stop gracefully and start again, without the code of the styles ``unknown``."""
        orders = self._orders.get(name)
        if orders is not None:
            orders.twice = twice
            orders.unknown = unknown
            orders.restart.set()

    def _gate_name(self) -> str:
        gate = CURRENT_GATE.get()
        return gate.name if gate is not None else ""

    async def _pause(self, seconds: float) -> None:
        gate = CURRENT_GATE.get()
        await (pause(seconds) if gate is None else gate.sleep(seconds))

    def _kill(self, gate: Gate, instance: str) -> NoReturn:
        """End the worker whose code is running, over an instance (F30)."""
        self.kills[instance] += 1
        self.report.counts["F30"] += 1
        gate.crash()
        if self.profile.hangs_up and not self.setup.atomic:
            self.world.sessions.hang_up(gate.name)
        raise SimulatedCrash(gate.name)

    async def _keep_running(self, name: str) -> None:
        random = Random(f"restarts/{self.setup.seed}/{name}")
        incarnation = 0
        while not self._stopping:
            gate = self.gate(f"{name}#{incarnation}", worker=name)
            crashed = await self._incarnation(gate, name)
            incarnation += 1
            if crashed and not self._stopping:
                healed = self.world.time() >= self.setup.plan.heal
                await pause(
                    1.0 if healed else random.choice((0.1, random.uniform(0, 10), random.uniform(0, 60)))
                )

    async def _incarnation(self, gate: Gate, name: str) -> bool:
        """Run a worker until it is asked to restart or crashes; return whether it crashed."""
        crashed = asyncio.Event()
        gate.on_crash = crashed.set
        before = self._orders.get(name)
        orders = self._orders[name] = _Orders(asyncio.Event(), unknown=before.unknown if before else ())
        if self._stopping:
            orders.restart.set()
        ports = worker_ports(gate, atomic=self.setup.atomic)
        life = self.in_gate(gate, self._life(ports, gate, orders))
        died = asyncio.get_running_loop().create_task(crashed.wait())
        await asyncio.wait({life, died}, return_when=asyncio.FIRST_COMPLETED)
        died.cancel()
        if gate.dead:
            life.cancel()
            await asyncio.wait({life}, timeout=1)
        else:
            self._note_failure(life, "a worker ended")
        return gate.dead

    async def _life(self, ports: HubPorts, gate: Gate, orders: _Orders) -> None:
        harness = self.harness.of_worker(partial(self._kill, gate))
        worker = await self.product.start_worker(ports, harness, self.settings, gate.name, orders.unknown)
        await orders.restart.wait()
        began = self.world.time()
        if orders.twice:
            stopping = asyncio.get_running_loop().create_task(worker.stop())
            await pause(Random(f"twice/{self.setup.seed}/{gate.name}").choice((0.0, 0.5, 5.0)))
            await worker.stop()
            await stopping
        else:
            await worker.stop()
        took = self.world.time() - began
        calm = self._is_calm()
        if took > (QUICK_STOP_S_MAX if calm else STOP_S_MAX):
            self.report.failures.append(f"B: stopping {gate.name} took {took:.0f} s")
        if calm and self.world.sessions.held_by(gate.name):
            self.report.failures.append(f"B: {gate.name} stopped and kept sessions")

    def _is_calm(self) -> bool:
        """Whether nothing but slowness was ever wrong with a call of this run."""
        return not set(self.profile.rates) - {"delay", "slow"} and self.world.outages is None

    def _note_failure(self, task: asyncio.Task[None], what: str) -> None:
        if task.done() and not task.cancelled() and task.exception() is not None:
            error = task.exception()
            if not isinstance(error, SimulatedCrash):
                self.report.failures.append(f"BUG: {what}: {error!r}")

    def _finish(self, workers: Sequence[asyncio.Task[None]]) -> None:
        world, report = self.world, self.report
        for task in workers:
            if not task.done():
                report.failures.append("B: a worker did not stop within 600 s")
            self._note_failure(task, "a worker's supervisor ended")
        report.failures += [f"BUG: {text}" for text in world.breaches]
        report.script = tuple(getattr(self._faults, "drawn", ()))
        report.counts.update(fault_number(item) for item in report.script)
        report.counts.update(world.counts)
        report.trace_hash = world.trace_hash
        report.virtual_s = world.time()
        report.turns = world.loop.turns
        report.calls = sum(gate.calls for gate in self._gates)
        report.commits = len(world.table.log)

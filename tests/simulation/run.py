"""One run: workers and a client on one world, faults until the plan heals, then recovery, purge and judgement.

The product is reached through :class:`Product` alone. A worker that crashes is started again as a new incarnation
with a gate of its own; a client that crashes is replaced by another that repeats the action under the same keys.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from durabletask_azure.core.history import RuntimeStatus, TimerFiredEvent
from durabletask_azure.core.messages import StartInstance
from durabletask_azure.core.partitioning import partition_of
from durabletask_azure.errors import DurableTaskError, OrchestrationAlreadyExistsError, TaskHubError
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings
from tests.simulation.chronicle import rebuild
from tests.simulation.fakes.broker import Item
from tests.simulation.fakes.gate import CURRENT_GATE, Fault, FaultSource, Gate, SimulatedCrash
from tests.simulation.fakes.ports import worker_ports
from tests.simulation.fakes.queue_ports import read_pack
from tests.simulation.fakes.table import ClientWrite
from tests.simulation.fakes.world import World
from tests.simulation.faults import PROFILES, CallFault, Plan, Window, fault_number, install, skew_of
from tests.simulation.interpreter import Harness, Toolbox
from tests.simulation.invariants import Evidence, check_history, check_leftovers, check_results
from tests.simulation.model import expect
from tests.simulation.programs import Case, ClientAction, Resume, Start
from tests.simulation.virtual_time import Deadlock, Livelock, OutOfTime, pause, pause_until, run_virtual

__all__ = ["Product", "Report", "Setup", "Worker", "execute"]

RECOVERY_S_MAX = 2_000.0
"""B: from the last fault and the last step's own waiting to the end of every instance."""
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

    async def start_worker(self, ports: HubPorts, harness: Harness, settings: Settings, name: str) -> Worker:
        """Start an engine on ``ports``."""
        ...

    async def act(self, ports: HubPorts, case: Case, action: ClientAction, settings: Settings) -> None:
        """Do one of the client's actions."""
        ...

    async def purge(self, ports: HubPorts, instance: str, settings: Settings) -> None:
        """Ask for the removal of a terminal instance."""
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


def _is_wake_up(item: Item) -> bool:
    """Tell whether a scheduled message is a timer or a start, which the sweep makes up for (a parked event is lost)."""
    return all(isinstance(message.body, StartInstance | TimerFiredEvent) for message in read_pack(item)[0])


class _DiesAfterInsert:
    """Ends a client between its row and its message (B102)."""

    def draw(self, gate: str, number: int, op: str, now: float) -> Fault | None:
        return Fault("crash_after") if op in ("store.insert_instance", "atomic.start") else None


def execute(setup: Setup, product: Product) -> Report:
    """Run a setup to its end and judge it."""
    run = _Run(setup, product)
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


class _Run:
    """The state of one run."""

    def __init__(self, setup: Setup, product: Product) -> None:
        self._setup = setup
        self._product = product
        self._faults = setup.faults()
        self._random = Random(f"run/{setup.seed}")
        self._settings = settings_of(setup.seed)
        self._stopping = False
        self._restart: dict[str, asyncio.Event] = {}
        self._clients = 0
        self._gates: list[Gate] = []
        self.breaches: list[str] = []
        self.report = Report(setup.seed, setup.plan.profile)

    async def main(self) -> None:
        setup = self._setup
        world = self._world = World(
            partitions=setup.partitions,
            lock_s=self._settings.lock_s,
            dedup_s=PROFILES[setup.plan.profile].dedup_s,
        )
        world.tracer = setup.tracer
        install(world, setup.plan, setup.seed, self.report.counts)
        self._harness = Harness(setup.case, self._product.tools(), self._pause, self._gate_name, world.time)
        loop = asyncio.get_running_loop()
        workers = [loop.create_task(self._keep_running(f"w{number}")) for number in range(setup.workers)]
        script = loop.create_task(self._script())
        windows = [loop.create_task(self._world_fault(window)) for window in setup.plan.windows]
        try:
            await asyncio.gather(script, *windows)
            await pause_until(setup.plan.heal)
            await self._recover()
            self._judge_results()
            if not self.report.failures:
                await self._purge()
        finally:
            self._stopping = True
            for event in self._restart.values():
                event.set()
            await asyncio.wait(workers, timeout=600)
            self._finish(workers)

    # -------------------------------------------------------- workers
    def _gate(self, name: str, *, worker: str = "") -> Gate:
        gate = Gate(
            self._world,
            name,
            self._faults,
            seed=self._setup.seed,
            skew=skew_of(self._setup.plan, worker),
        )
        self._gates.append(gate)
        return gate

    def _gate_name(self) -> str:
        gate = CURRENT_GATE.get()
        return gate.name if gate is not None else ""

    async def _pause(self, seconds: float) -> None:
        gate = CURRENT_GATE.get()
        await (pause(seconds) if gate is None else gate.sleep(seconds))

    async def _keep_running(self, name: str) -> None:
        random = Random(f"restarts/{self._setup.seed}/{name}")
        incarnation = 0
        while not self._stopping:
            gate = self._gate(f"{name}#{incarnation}", worker=name)
            crashed = await self._incarnation(gate, name)
            incarnation += 1
            if crashed and not self._stopping:
                healed = self._world.time() >= self._setup.plan.heal
                await pause(
                    1.0 if healed else random.choice((0.1, random.uniform(0, 10), random.uniform(0, 60)))
                )

    async def _incarnation(self, gate: Gate, name: str) -> bool:
        """Run a worker until it is asked to restart or crashes; return whether it crashed."""
        crashed = asyncio.Event()
        gate.on_crash = crashed.set
        restart = self._restart[name] = asyncio.Event()
        if self._stopping:
            restart.set()
        ports = worker_ports(gate, atomic=self._setup.atomic)
        life = self._in_gate(gate, self._life(ports, gate.name, restart))
        died = asyncio.get_running_loop().create_task(crashed.wait())
        await asyncio.wait({life, died}, return_when=asyncio.FIRST_COMPLETED)
        died.cancel()
        if gate.dead:
            life.cancel()
            await asyncio.wait({life}, timeout=1)
        else:
            self._note_failure(life, "a worker ended")
        return gate.dead

    async def _life(self, ports: HubPorts, name: str, restart: asyncio.Event) -> None:
        worker = await self._product.start_worker(ports, self._harness, self._settings, name)
        await restart.wait()
        began = self._world.time()
        await worker.stop()
        if self._world.time() - began > 300:
            self.report.failures.append(f"B: stopping {name} took {self._world.time() - began:.0f} s")

    def _in_gate(self, gate: Gate, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        token = CURRENT_GATE.set(gate)
        try:
            return asyncio.get_running_loop().create_task(work)
        finally:
            CURRENT_GATE.reset(token)

    def _note_failure(self, task: asyncio.Task[None], what: str) -> None:
        if task.done() and not task.cancelled() and task.exception() is not None:
            error = task.exception()
            if not isinstance(error, SimulatedCrash):
                self.report.failures.append(f"BUG: {what}: {error!r}")

    async def _world_fault(self, window: Window) -> None:
        await pause_until(window.begin)
        match window.kind:
            case "restart":
                self.report.counts["F32"] += 1
                event = self._restart.get(window.gate)
                if event is not None:
                    event.set()
            case "recreate":
                self.report.counts["F35"] += 1
                self._world.sessions.recreate(_is_wake_up)
            case "poison":
                self.report.counts["F28"] += 1
                partition = self._random.randrange(self._setup.partitions)
                self._world.sessions.inject(partition, f"poison-{window.begin}", b'{"what": "no message"}')
                self._world.activities.inject(f"poison-{window.begin}", b"no task")
            case _:
                pass

    # -------------------------------------------------------- client
    async def _script(self) -> None:
        actions: list[asyncio.Task[None]] = []
        streams: dict[str, asyncio.Task[None]] = {}
        for action in self._setup.case.client:
            await pause_until(action.at)
            # One client's actions on one instance come one after the other: a resume never overtakes its suspend.
            before = streams.get(action.instance)
            task = asyncio.get_running_loop().create_task(self._act(action, before))
            streams[action.instance] = task
            actions.append(task)
        await asyncio.gather(*actions)

    async def _act(self, action: ClientAction, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        rivals = action.rivals if isinstance(action, Start) else 1
        if rivals > 1:
            self.report.counts["F21"] += 1
        await asyncio.gather(*(self._persist(action) for _ in range(rivals)))

    async def _persist(self, action: ClientAction) -> None:
        """Do one action, again and again under the same keys, until it is done."""
        for attempt in range(60):
            if attempt and isinstance(action, Start) and self._was_started(action.instance):
                return
            self._clients += 1
            gate = self._gate(f"client{self._clients}")
            if isinstance(action, Start) and action.dies and attempt == 0:
                self.report.counts["client died after its insert"] += 1
                gate.faults = _DiesAfterInsert()
            task = self._in_gate(
                gate,
                self._product.act(
                    worker_ports(gate, atomic=self._setup.atomic), self._setup.case, action, self._settings
                ),
            )
            await asyncio.wait({task})
            error = None if task.cancelled() or gate.dead else task.exception()
            if not gate.dead and error is None:
                return
            if isinstance(error, OrchestrationAlreadyExistsError) and isinstance(action, Start):
                return
            if error is not None and not isinstance(error, TaskHubError):
                self.report.failures.append(f"BUG: {action} failed: {error!r}")
                return
            await pause(min(10.0, 0.5 * 2**attempt))
        self.report.failures.append(f"L: the client gave up: {action}")

    def _was_started(self, instance: str) -> bool:
        """Tell whether a client's row of that id was ever accepted: an ended one must not be started again."""
        log = self._world.table.log
        return any(isinstance(item, ClientWrite) and item.row.instance_id == instance for item in log)

    def _exists(self, instance: str) -> bool:
        partition = partition_of(instance, self._setup.partitions)
        return instance in self._world.table.rows(partition).instances

    # -------------------------------------------------------- judgement
    def _open(self) -> list[str]:
        """Return what has not ended: instances that are not terminal or not there, and tasks."""
        open_ones = [
            name
            for rows in self._world.table.partitions.values()
            for name, stored in rows.instances.items()
            if not stored.row.status.is_terminal
        ]
        for name, expected in expect(self._setup.case).items():
            if not expected.optional and not self._exists(name):
                open_ones.append(name)
        return open_ones

    def _busy(self) -> bool:
        sessions = self._world.sessions
        return bool(self._world.activities.waiting()) or any(
            sessions.waiting(partition) for partition in range(self._setup.partitions)
        )

    async def _recover(self) -> None:
        end = self._world.time() + RECOVERY_S_MAX
        while self._open() and self._world.time() < end:
            await pause(2.0)
            await self._resume_again()
        open_ones = self._open()
        if open_ones:
            self.report.failures.append(f"B: still open after {RECOVERY_S_MAX:.0f} s: {sorted(open_ones)}")
        while self._busy() and self._world.time() < end:
            await pause(2.0)

    async def _resume_again(self) -> None:
        """Resume what is still suspended: a repeated suspend has its own id and may have come after the resume."""
        for rows in self._world.table.partitions.values():
            for name, stored in tuple(rows.instances.items()):
                if stored.row.status is RuntimeStatus.SUSPENDED:
                    await self._persist(Resume(at=0.0, instance=name))

    def _judge_results(self) -> None:
        world = self._world
        evidence = Evidence(
            chronicle=rebuild(world.table.log),
            expected=expect(self._setup.case),
            executions=self._harness.executions,
            blobs={name: data for name, (data, _at) in world.blobs.items()},
            faultless=self._setup.faultless,
            accepted=[action.instance for action in self._setup.case.client if isinstance(action, Start)],
        )
        self.report.failures += check_results(evidence)
        self.report.failures += check_history(evidence)

    async def _purge(self) -> None:
        world = self._world
        for partition in range(self._setup.partitions):
            for name in sorted(world.table.rows(partition).instances):
                gate = self._gate(f"purge-{name}")
                await self._product.purge(worker_ports(gate), name, self._settings)
        # Copies the broker was made to deliver late are still on their way.
        for _ in range(150):
            await pause(5.0)
            if not check_leftovers(world):
                return
        self.report.failures += check_leftovers(world)

    def _finish(self, workers: Sequence[asyncio.Task[None]]) -> None:
        world, report = self._world, self.report
        for task in workers:
            if not task.done():
                report.failures.append("B: a worker did not stop within 600 s")
            self._note_failure(task, "a worker's supervisor ended")
        report.failures += [f"BUG: {text}" for text in world.breaches]
        report.script = tuple(getattr(self._faults, "drawn", ()))
        report.counts.update(fault_number(item) for item in report.script)
        report.trace_hash = world.trace_hash
        report.virtual_s = world.time()
        report.turns = world.loop.turns
        report.calls = sum(gate.calls for gate in self._gates)
        report.commits = len(world.table.log)


def settings_of(seed: int) -> Settings:
    """Return small limits, so that a small case meets them: spills, segments, evictions, moved unsent names."""
    random = Random(f"settings/{seed}")
    return Settings(
        payload_inline_bytes_max=2_000,
        history_inline_bytes_max=random.choice((1_000, 4_000, 32_000)),
        segment_bytes_max=random.choice((2_000, 20_000)),
        receive_messages_max=random.choice((1, 3, 200)),
        commit_instances_max=random.choice((1, 2, 50)),
        pipeline_turns_max=random.choice((1, 2, 2)),
        unsent_names_max=random.choice((1, 3, 200)),
        unsettled_max=random.choice((5, 1_000)),
        warm_instances_max=random.choice((1, 3, 2_000)),
        sweep_s=120.0,
        heartbeat_s=10.0,
        balance_s=5.0,
        tombstone_s=3_600.0,
        unregistered_retry_s=10.0,
        stop_grace_s=20.0,
    )

"""Where a fault test happens: services, worker processes behind proxies of their own, a client with a journal.

What comes of it is judged as in the torture: by the journal, by the lines that activities left, by the model. The
client and whoever looks at rows, messages and blobs go to the services straight.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from azurite.start import RunningAzurite
from durabletask_azure import (
    OrchestrationIdReusePolicy,
    OrchestrationState,
    OrchestrationStatus,
    TaskHub,
    TaskHubClient,
)
from durabletask_azure.core.partitioning import partition_of
from durabletask_azure.core.rows import LockRow
from durabletask_azure.targets import HubNames
from tests.torture.cast import Actor
from tests.torture.checker import Evidence, Verdict, judge
from tests.torture.expectations import Start, ticks
from tests.torture.hubs import LOCK_S, open_hub
from tests.torture.journal import Journal
from tests.torture.programs import OLD, TICK, Order, Run
from tests.torture.run import bugs_in, found_in
from tests.wire.leftovers import leftovers
from tests.wire.services import EmulatorProcess, Front, WireServices

WAIT_S: Final = 60.0
_TRIES_MAX: Final = 4
_TRY_S: Final = 10.0
MARKS: Final = [
    pytest.mark.azure,
    pytest.mark.timeout(240),
    # The SDK lets go of sockets unclosed when a connection is cut or refused.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""What all fault tests are marked with."""


class Site:
    """One hub, and those who work on it."""

    def __init__(self, folder: Path, azurite: RunningAzurite, *, persist: bool, **options: str) -> None:
        self.folder = folder
        self.names = HubNames(hub=f"f{uuid.uuid4().hex[:12]}")
        persisted = folder / "broker.db" if persist else None
        self.emulator = EmulatorProcess(folder / "log-emulator.txt", persisted).start()
        self.services = WireServices(azurite, self.emulator)
        self._options = {
            "DURABLETASK_LOCK_DURATION_S": str(LOCK_S),
            # Nothing rests on duplicate detection, which would absorb what has to be absorbed without it.
            "DURABLETASK_DUPLICATE_WINDOW_S": "none",
            "DURABLETASK_CREATE_IF_MISSING": "true",
        } | options
        self._actors: list[Actor] = []
        self._hub: TaskHub | None = None
        self._journal = Journal(folder / "client-test.jsonl")
        self._number = 0

    def environment(self, front: str | None = None) -> dict[str, str]:
        """Return what a process finds the hub by."""
        return self.services.environment(self.names.hub, front) | self._options

    @property
    def hub(self) -> TaskHub:
        """The hub as this process sees it, without a proxy."""
        if self._hub is None:
            self._hub = open_hub(self.environment())
        return self._hub

    @property
    def client(self) -> TaskHubClient:
        """A client of it."""
        return TaskHubClient(self.hub)

    def close(self) -> None:
        """End everything."""
        for actor in self._actors:
            if actor.is_running:
                actor.kill()
        if self._hub is not None:
            self._hub.close()
        self._journal.close()
        self.services.stop_fronts()
        self.emulator.kill()

    # ------------------------------------------------------------ workers

    def worker(self, name: str) -> Actor:
        """Start a worker process behind a front of its name."""
        return self._actor(name, "tests.torture.worker_process", "--version", OLD)

    def load(self, name: str, inflight: int) -> Actor:
        """Start a client process behind a front of its name; it starts what it can until there is a file `stop`."""
        (self.folder / "version").write_text(OLD)
        return self._actor(name, "tests.torture.client_process", name, "--inflight", str(inflight))

    def _actor(self, name: str, module: str, *arguments: str) -> Actor:
        actor = Actor(name, [module, str(self.folder), *arguments], self.folder, self.environment(name))
        actor.start()
        self._actors.append(actor)
        return actor

    def front(self, name: str) -> Front:
        """Return what a worker sees of the services."""
        return self.services.front(name)

    def working(self, name: str) -> tuple[Actor, Front]:
        """Start a worker, and return when it has run something: every link is open then."""
        worker = self.worker(name)
        for partition in range(4):
            self.end(self.start("chain", Order(1), instance=self.instance_in(partition)))
        return worker, self.front(name)

    def instance_in(self, partition: int) -> str:
        """Return a new instance id of a partition."""
        while True:
            self._number += 1
            instance = f"i{self._number}"
            if partition_of(instance, 4) == partition:
                return instance

    # ------------------------------------------------------------ what a client does

    def start(self, kind: str, order: Order | None = None, *, instance: str | None = None) -> str:
        """Start an orchestration, and write it down."""
        order = order or Order(1000 + self._number)
        start = Start(instance or self.instance_in(0), kind, order, OLD)
        self._journal.note("intent", start.instance, start=start)
        self.client.schedule_new_orchestration(
            kind,
            input=order,
            instance_id=start.instance,
            version=OLD,
            reuse_id_policy=OrchestrationIdReusePolicy(
                replaceable_status=(), ignorable_status=[OrchestrationStatus.PENDING]
            ),
        )
        self._journal.note("accepted", start.instance)
        return start.instance

    def tell(self, instance: str, kind: str, order: Order) -> None:
        """Raise the events an orchestration of this kind waits for."""
        for told in ticks(Start(instance, kind, order, OLD)):
            self.client.raise_orchestration_event(instance, TICK, data=told, event_id=f"{instance}/{told}")

    def end(self, instance: str, timeout_s: float = WAIT_S) -> OrchestrationState:
        """Wait for the end of an instance, and write down what was seen."""
        state = self.client.wait_for_orchestration_completion(instance, timeout=timeout_s)
        assert state is not None
        self._journal.note(
            "observed", instance, status=state.runtime_status.name, output=state.serialized_output
        )
        return state

    def completed(self, instance: str, timeout_s: float = WAIT_S) -> None:
        """Wait until an instance has completed."""
        state = self.end(instance, timeout_s)
        assert state.runtime_status is OrchestrationStatus.COMPLETED, state

    def let_go(self, run: Run | None = None) -> None:
        """Let activities that hold go on, or one run of one."""
        (self.folder / ("go" if run is None else f"go-{run.token}")).touch()

    # ------------------------------------------------------------ what is looked at

    def messages(self, queue: str) -> int:
        """Return how many messages a queue holds, locked ones too."""
        return self.emulator.messages()[queue]

    def until(self, fits: Callable[[], Any], what: str = "it", timeout_s: float = WAIT_S) -> None:
        """Wait until something outside of this process is as it should be."""
        deadline = time.monotonic() + timeout_s
        while not fits():
            assert time.monotonic() < deadline, f"{what} never came true"
            threading.Event().wait(0.05)

    def runs(self, instance: str, label: str = "0") -> list[Run]:
        """Return the runs of a step so far."""
        return Evidence.read(self.folder).runs.get((instance, label), [])

    def until_run(self, instance: str, label: str = "0", count: int = 1) -> None:
        """Wait until a step has run so often."""
        self.until(lambda: len(self.runs(instance, label)) >= count, f"run {count} of {instance} {label}")

    def events(self, instance: str) -> list[str]:
        """Return the kinds of events in an instance's history."""
        return [type(event).__name__ for event in self.client.get_orchestration_history(instance)]

    def until_event(self, instance: str, kind: str) -> None:
        """Wait until an event of that kind is committed."""
        self.until(lambda: kind in self.events(instance), f"{kind} of {instance}")

    def start_unsent(self, front: Front, kind: str, order: Order | None = None, *, label: str) -> str:
        """Start an orchestration whose first step, `label`, the worker behind `front` commits and cannot send.

        The bus holds what the worker says from now on. If that is a question about its session, the worker waits for
        the answer and receives nothing: then this one is let through, and it is another's turn.
        """
        for _ in range(_TRIES_MAX):
            front.bus.hold("up")
            instance = self.start(kind, order)
            with contextlib.suppress(AssertionError):
                self.until(lambda: "TaskScheduledEvent" in self.events(instance), timeout_s=_TRY_S)  # noqa: B023
                return instance
            front.heal()
            self.until_run(instance, label)
            self.let_go(self.runs(instance, label)[-1])
            self.completed(instance)
        raise AssertionError("the worker received nothing after it was cut off, however often")

    def lock(self, instance: str) -> LockRow:
        """Return the lock row of an instance's partition."""
        store = self.hub.ports.store

        async def read() -> LockRow:
            return (await store.read_lock(partition_of(instance, 4))).row

        return self.hub.run(read)

    def verdict(self) -> Verdict:
        """Judge what has come of it so far."""
        return judge(Evidence.read(self.folder), asyncio.run(found_in(open_hub(self.environment()))))

    def loops_failed(self) -> list[str]:
        """Return lines of the logs that tell of a loop that began anew after an error nobody was prepared for."""
        return [
            line
            for path in sorted(self.folder.glob("log-*.txt"))
            for line in path.read_text(errors="replace").splitlines()
            if "loop failed" in line or "failed; it is started again" in line
        ]

    def settle(self) -> None:
        """Everything is right, no process met what it was not prepared for, and after a purge nothing is left."""
        verdict = self.verdict()
        assert (verdict.lost, verdict.wrong, verdict.double) == ([], [], [])
        assert bugs_in(self.folder) == []
        assert self.loops_failed() == []
        self.purge()

    def purge(self) -> None:
        """Purge everything; nothing may be left."""

        def nothing_is_left() -> bool:
            self.client.purge_orchestrations_by(recursive=True)
            return not self.leftovers()

        try:
            self.until(nothing_is_left)
        except AssertionError:
            assert self.leftovers() == []
            raise

    def leftovers(self) -> list[str]:
        """Return what is left in tables, blobs and queues."""
        _, storage = self.services.connection_strings
        return leftovers(storage, self.names, self.emulator)

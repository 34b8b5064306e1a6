"""Two implementations of one API, each with its modules, a place to run on, and a client; programs are written once.

``Side`` is what a program sees: the modules by the names both packages share, and how to run and observe. What a side
observes of an instance is plain data in which ids and times of one run are gone, so that two sides can be compared.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.parity.surface import OUR_NAMES, OURS, THEIRS

Steps = Generator[Any, Any, Any]
"""What an orchestrator written as a generator returns."""

WAIT_S = 30.0
GENERATED = re.compile(r"[0-9a-f]{32}|.*:[0-9a-f]{4}")
"""Ids of instances that nobody chose: of starts without one, and of children."""


@dataclass(frozen=True)
class Api:
    """The modules of one package."""

    package: str
    task: Any
    client: Any
    worker: Any
    history: Any
    serialization: Any

    @classmethod
    def of(cls, package: str) -> Api:
        """Load the modules of a package."""
        names = ("task", "client", "worker", "history", "serialization")
        return cls(package, *(importlib.import_module(f"{package}.{name}") for name in names))

    def named(self, module: Any, name: str) -> Any:
        """Return a class that has another name in each package, given by Microsoft's."""
        return getattr(module, name if self.package == THEIRS else OUR_NAMES[name])


@dataclass(frozen=True)
class Place:
    """Where a side runs: the arguments that clients and workers are made with there, and how to make another place."""

    arguments: tuple[Any, ...]
    options: dict[str, Any]
    another: Callable[[], AbstractContextManager[Place]]


class Side:
    """One implementation, ready to run programs."""

    def __init__(self, api: Api, place: Place) -> None:
        self.api = api
        self._place = place
        self.worker = self.new_worker()
        self.client = self.new_client()
        self.program = ""
        self.runs: dict[str, Callable[[], Any]] = {}

    @property
    def is_ours(self) -> bool:
        """Whether this is the package under test."""
        return self.api.package == OURS

    def new_client(self, **options: Any) -> Any:
        """Return a client."""
        return self._new(self.api.client, "TaskHubGrpcClient", options)

    def new_async_client(self, **options: Any) -> Any:
        """Return an async client."""
        return self._new(self.api.client, "AsyncTaskHubGrpcClient", options)

    def new_worker(self, **options: Any) -> Any:
        """Return a worker that is not started."""
        return self._new(self.api.worker, "TaskHubGrpcWorker", options)

    def _new(self, module: Any, name: str, options: dict[str, Any]) -> Any:
        return self.api.named(module, name)(*self._place.arguments, **self._place.options, **options)

    @contextmanager
    def apart(self) -> Generator[Side]:
        """Give the same side on a place of its own, for programs with a worker of their own.

        Not beside the shared worker: a worker of Microsoft's that stops may take work along from its backend.
        """
        with self._place.another() as place:
            side = Side(self.api, place)
            side.program = self.program
            yield side
            side.client.close()

    # ------------------------------------------------------------ what programs are made of

    def add(self, *orchestrators: Any, activities: Iterable[Any] = (), worker: Any = None) -> None:
        """Register functions with the worker all programs share; their names get the program's in front."""
        chosen = self.worker if worker is None else worker
        for orchestrator in orchestrators:
            orchestrator.__name__ = f"{self.program}.{orchestrator.__name__}"
            chosen.add_orchestrator(orchestrator)
        for activity in activities:
            activity.__name__ = f"{self.program}.{activity.__name__}"
            chosen.add_activity(activity)

    def id(self, name: str) -> str:
        """Return an instance id for this program and side alone."""
        return f"{self.program}-{name}"

    def start(self, orchestrator: Any, input: Any = None, **options: Any) -> str:
        """Start an orchestration."""
        return self.client.schedule_new_orchestration(orchestrator, input=input, **options)

    def end(self, instance_id: str) -> Any:
        """Wait for the end of an instance and return its state."""
        return self.client.wait_for_orchestration_completion(instance_id, timeout=WAIT_S)

    def run(self, orchestrator: Any, input: Any = None, **options: Any) -> Any:
        """Start an orchestration, wait for its end, and return what is seen of it."""
        instance_id = self.start(orchestrator, input, **options)
        self.end(instance_id)
        return self.observe(instance_id)

    def status(self, instance_id: str) -> str:
        """Return the name of an instance's status."""
        state = self.client.get_orchestration_state(instance_id)
        return "absent" if state is None else state.runtime_status.name

    def until(self, instance_id: str, status: str) -> None:
        """Wait until an instance has a status."""
        self.eventually(lambda: self.status(instance_id) == status)

    def eventually(self, fits: Callable[[], bool]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + WAIT_S
        pause = threading.Event()
        while not fits():
            assert time.monotonic() < deadline, "it never came true"
            pause.wait(0.005)

    def with_async_client(self, use: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
        """Return what ``use(client)`` returns, in an event loop of its own."""

        async def run() -> Any:
            async with self.new_async_client(**options) as client:
                return await use(client)

        return asyncio.run(run())

    # ------------------------------------------------------------ what is seen

    def observe(self, instance_id: str) -> dict[str, Any]:
        """Return status, values, failure and history of an instance."""
        state = self.client.get_orchestration_state(instance_id)
        return {**seen(state), "history": self.history(instance_id)}

    def history(self, instance_id: str) -> list[Any]:
        """Return an instance's history without ids and times."""
        return plain_history(self.client.get_orchestration_history(instance_id))


def seen(state: Any) -> dict[str, Any]:
    """Return what a state says, without ids and times."""
    return {
        "name": state.name,
        "status": state.runtime_status.name,
        "input": state.get_input(),
        "output": state.get_output(),
        "custom status": state.get_custom_status(),
        "failure": plain_failure(state.failure_details),
    }


def plain_failure(details: Any) -> Any:
    """Return the type and message of a failure, and those of its causes."""
    if details is None:
        return None
    return [details.error_type, details.message, plain_failure(details.inner_failure)]


def plain_history(events: Iterable[Any]) -> list[Any]:
    """Return events as ``[kind, {field: value}]``: tasks by name, values parsed, generated ids and times left out.

    The beginning and end of turns are left out: which events share a turn depends on how fast they come.
    """
    names: dict[int, str] = {}
    plain: list[Any] = []
    for event in events:
        kind = type(event).__name__.removesuffix("Event")
        if kind in ("OrchestratorStarted", "OrchestratorCompleted"):
            continue
        if kind == "TimerCreated" or hasattr(event, "name"):
            names[event.event_id] = getattr(event, "name", "timer")
        details: dict[str, Any] = {}
        for field in ("name", "version", "input", "result", "recurse", "orchestration_status"):
            value = getattr(event, field, None)
            if value is not None and value != "":
                details[field] = parsed(value) if field in ("input", "result") else value
        if getattr(event, "failure_details", None) is not None:
            details["failure"] = plain_failure(event.failure_details)
        if hasattr(event, "task_scheduled_id"):
            details["of"] = names.get(event.task_scheduled_id)
        if hasattr(event, "timer_id"):
            details["of"] = names.get(event.timer_id)
        if hasattr(event, "instance_id"):
            details["instance"] = "generated" if GENERATED.fullmatch(event.instance_id) else event.instance_id
        plain.append([kind, details])
    return plain


def parsed(text: str) -> Any:
    """Return the value of a payload, or the text if it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text

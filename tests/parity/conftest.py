"""The two sides: Microsoft's package on its in-memory backend, and ours on a hub in memory."""

from __future__ import annotations

import importlib
import logging
import socket
from collections.abc import Callable, Generator, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import pytest

from durabletask_azure import TaskHub
from tests.parity.book import PROGRAMS, load_programs
from tests.parity.sides import Api, Place, Side
from tests.parity.surface import OURS, THEIRS

Run = Callable[[], Any]


def silent(name: str) -> logging.Logger:
    """Return a logger that keeps what programs let fail to itself."""
    logger = logging.getLogger(f"tests.parity.{name}")
    logger.setLevel(logging.CRITICAL + 1)
    return logger


@contextmanager
def their_place() -> Generator[Place]:
    """Serve an in-memory backend of Microsoft's, to this machine alone."""
    grpc: Any = importlib.import_module("grpc")
    module: Any = importlib.import_module("durabletask.testing.in_memory_backend")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    backend = module.InMemoryOrchestrationBackend(port=port, max_history_size=100_000)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=30))
    module.stubs.add_TaskHubSidecarServiceServicer_to_server(backend, server)
    # Not its own start(): that would listen on every interface.
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    server.start()
    yield Place((), {"host_address": f"127.0.0.1:{port}", "logger": silent("theirs")}, their_place)
    server.stop(None).wait()


@contextmanager
def our_place() -> Generator[Place]:
    """Open a hub in memory."""
    with TaskHub.local() as hub:
        yield Place((hub,), {"logger": silent("ours")}, our_place)


@pytest.fixture(scope="module")
def theirs() -> Iterator[Side]:
    """Microsoft's package, its worker knowing all programs.

    Not for longer: some of what it was left with it runs again and again, and formats a traceback each time; CPython's
    ``ast.parse`` cannot be called from two threads at once, and other tests parse modules.
    """
    with their_place() as place:
        side = Side(Api.of(THEIRS), place)
        side.runs = load_programs(side)
        side.worker.start()
        yield side
        side.worker.stop()
        side.client.close()


@pytest.fixture(scope="module")
def ours() -> Iterator[Side]:
    """Our package, its worker knowing all programs."""
    with our_place() as place:
        side = Side(Api.of(OURS), place)
        side.runs = load_programs(side)
        side.worker.start()
        yield side
        side.worker.stop()


@pytest.fixture(params=sorted(PROGRAMS))
def program(request: pytest.FixtureRequest) -> str:
    """The name of a program."""
    return str(request.param)

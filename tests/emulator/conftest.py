"""An emulator for the tests that go over the wire."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest

from durabletask_azure.emulator.fixture import RunningEmulator


@pytest.fixture(autouse=True)
def leavings_collected() -> Iterator[None]:
    """Collect the sockets that the SDK lets go of unclosed when a connection is cut or refused: here, where that is
    known, and not in whatever test comes next."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningEmulator]:
    """One emulator for a module."""
    with RunningEmulator() as running:
        yield running


@pytest.fixture
def emulator(shared: RunningEmulator) -> Iterator[RunningEmulator]:
    """The emulator, with a queue `q` and a queue with sessions `s` that are new for each test."""
    shared.create_queue("q")
    shared.create_queue("s", requires_sessions=True)
    yield shared
    shared.call(lambda server: server.faults.clear())
    for name in ("q", "s"):
        shared.delete_queue(name)

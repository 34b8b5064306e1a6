"""What a process tells the others that have its hub open: who waits there is woken, and few others."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from durabletask_azure.adapters.local.bell import Bell, changed, ended
from durabletask_azure.adapters.local.hints import SocketNeighbours
from tests.contract.builders import WAIT_S

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no such sockets here")
MANY = [f"{number:040}" for number in range(1_000)]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


class Waiter:
    """What the bell resolves in place of a future; says when it was."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.woken = asyncio.Event()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def done(self) -> bool:
        return self.woken.is_set()

    def set_result(self, result: None) -> None:
        self.woken.set()


class Neighbours:
    """Two open hubs, and who waits at the one for what the other tells."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bell = Bell()
        self._listener = SocketNeighbours(folder, self._bell)
        (self._socket,) = folder.glob("*.sock")
        self._speaker = SocketNeighbours(folder, Bell())
        self._last = Waiter()
        self._waiters = {topic: Waiter() for name in "ab" for topic in (changed(name), ended(name))}
        for topic, waiter in (*self._waiters.items(), (7, self._last)):
            self._bell.join(topic, cast(Any, waiter))

    def tell(self, topics: list[str]) -> None:
        """Have the other one tell of a commit."""
        self._speaker.tell(topics)

    def send(self, data: bytes) -> None:
        """Send what no hub of this version does."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(data, str(self._socket))

    async def woken(self) -> set[str]:
        """Return the topics whose waiters all that was told has woken."""
        self._speaker.tell([7])
        await asyncio.wait_for(self._last.woken.wait(), WAIT_S)
        return {topic for topic, waiter in self._waiters.items() if waiter.done()}

    def close(self) -> None:
        self._listener.close()
        self._speaker.close()


@pytest.fixture
async def neighbours(short_folder: Path) -> AsyncIterator[Neighbours]:
    neighbours = Neighbours(short_folder)
    yield neighbours
    neighbours.close()


async def test_few_changes_are_named(neighbours: Neighbours) -> None:
    neighbours.tell([changed("a"), ended("a")])

    assert await neighbours.woken() == {changed("a"), ended("a")}


async def test_the_ends_among_many_changes_are_named(neighbours: Neighbours) -> None:
    neighbours.tell([*map(changed, MANY), ended("a")])

    assert await neighbours.woken() == {changed("a"), changed("b"), ended("a")}


async def test_many_ends_wake_everybody(neighbours: Neighbours) -> None:
    neighbours.tell([*map(ended, MANY)])

    assert await neighbours.woken() == {changed("a"), changed("b"), ended("a"), ended("b")}


async def test_many_changes_told_by_the_version_before_wake_everybody(neighbours: Neighbours) -> None:
    neighbours.send(b"[[],null]")

    assert await neighbours.woken() == {changed("a"), changed("b"), ended("a"), ended("b")}

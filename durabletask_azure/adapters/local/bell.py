"""Wakes what waits inside this process: receives, waiting clients, and whoever watches the membership.

A topic is a number (messages of that partition, or one of the constants below) or a text (:func:`changed`,
:func:`ended`: what happened to the instance of an id). Numbered topics count their rings, so that a waiter who first
looks and then waits misses nothing: it hands in the count it saw before looking. Topics of instances do not, but it can
be asked to note that one has not rung since (:meth:`Bell.note`). Waiters may belong to any event loop; ringing may come
from any thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence

__all__ = ["ACTIVITIES", "MEMBERS", "Bell", "Topic", "changed", "ended", "is_end", "wake"]

Topic = int | str
ACTIVITIES = -1
"""Activity tasks that somebody may take."""
MEMBERS = -2
"""Workers that came, go, or let go of a partition."""

Waiter = asyncio.Future[None]
"""A future, or what has the same ``get_loop``, ``done`` and ``set_result``, all that is used of it."""

_NOTED_MAX = 10_000


def changed(instance_id: str) -> str:
    """Return the topic of any change of an instance's row."""
    return f"c{instance_id}"


def ended(instance_id: str) -> str:
    """Return the topic of an instance's end, and of its row's removal."""
    return f"e{instance_id}"


def is_end(topic: str) -> bool:
    """Return whether a text is a topic of :func:`ended`."""
    return topic.startswith("e")


class Bell:
    """All waiters of one open hub."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[int, int] = {}
        self._everything = 0
        self._waiting: dict[Topic, set[Waiter]] = {}
        self._noted: dict[Topic, bool] = {}
        """Topics that have not rung since they were noted, and whether that was confirmed."""

    def count(self, topic: int) -> int:
        """Return how often a numbered topic has rung."""
        return self._counts.get(topic, 0) + self._everything

    def attend(self, topic: Topic) -> Waiter:
        """Return a future of the running loop that the topic's next ring resolves; hand it to :meth:`until`."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self.join(topic, waiter)
        return waiter

    def join(self, topic: Topic, waiter: Waiter) -> bool:
        """Have the topic's next ring resolve a waiter; return whether it is noted that it never rang so far."""
        with self._lock:
            self._waiting.setdefault(topic, set()).add(waiter)
            return self._noted.get(topic, False)

    def note(self, topics: Sequence[Topic]) -> None:
        """Note that these have not rung from now on; it counts once :meth:`confirm` says that there was no ring before
        either. Not more are kept than a few thousand."""
        with self._lock:
            if len(self._noted) + len(topics) > _NOTED_MAX:
                self._noted.clear()
            for topic in topics[:_NOTED_MAX]:
                self._noted[topic] = False

    def confirm(self, topics: Iterable[Topic], *, silent: bool) -> None:
        """Say of noted topics whether what rings them can only have happened since."""
        with self._lock:
            for topic in topics:
                if not silent:
                    self._noted.pop(topic, None)
                elif topic in self._noted:
                    self._noted[topic] = True

    def awaited(self, topics: Iterable[Topic]) -> dict[Topic, Sequence[Waiter]]:
        """Return those of the topics that somebody waits for, and who does."""
        with self._lock:
            return {topic: (*self._waiting[topic],) for topic in self._waiting.keys() & topics}

    async def until(self, topic: Topic, waiter: Waiter, timeout_s: float) -> None:
        """Wait for a waiter of :meth:`attend`, at most ``timeout_s`` seconds."""
        timer = waiter.get_loop().call_later(max(timeout_s, 0.0), _resolve, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self.leave(topic, waiter)

    def leave(self, topic: Topic, waiter: Waiter) -> None:
        """Forget a waiter."""
        with self._lock:
            waiters = self._waiting.get(topic)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._waiting[topic]

    async def wait(self, topic: int, seen: int, timeout_s: float) -> None:
        """Wait until a numbered topic has rung more than ``seen`` times, at most ``timeout_s`` seconds."""
        waiter = self.attend(topic)
        if self.count(topic) != seen:
            self.leave(topic, waiter)
            return
        await self.until(topic, waiter, timeout_s)

    def ring(self, topics: Iterable[Topic]) -> list[Waiter]:
        """Count the rings and return the waiters to resolve (each in its own loop: :func:`wake`)."""
        woken: list[Waiter] = []
        rung = set(topics)
        with self._lock:
            for topic in rung:
                if isinstance(topic, int):
                    self._counts[topic] = self._counts.get(topic, 0) + 1
            # Most topics concern nobody here.
            for topic in self._noted.keys() & rung:
                del self._noted[topic]
            for topic in self._waiting.keys() & rung:
                woken.extend(self._waiting.pop(topic))
        return woken

    def rouse(self, topic: Topic) -> list[Waiter]:
        """Return the waiters of a topic without counting a ring: for what is found without looking."""
        with self._lock:
            return list(self._waiting.pop(topic, ()))

    def waiting_for_instances(self) -> int:
        """Return how many wait for any instance."""
        with self._lock:
            return sum(len(some) for topic, some in self._waiting.items() if isinstance(topic, str))

    def ring_instances(self, *, with_ends: bool) -> list[Waiter]:
        """Return everybody who waits for changes of any instance, and with ``with_ends`` for its end."""
        with self._lock:
            if with_ends:
                self._noted.clear()
            topics = [
                topic
                for topic in self._waiting
                if isinstance(topic, str) and (with_ends or not is_end(topic))
            ]
        return self.ring(topics)

    def ring_all(self) -> list[Waiter]:
        """Ring every topic."""
        with self._lock:
            self._everything += 1
            self._noted.clear()
            woken = [waiter for waiters in self._waiting.values() for waiter in waiters]
            self._waiting.clear()
        return woken


def wake(waiters: Iterable[Waiter]) -> None:
    """Resolve waiters from any thread, with one call per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Waiter]] = {}
    for waiter in waiters:
        by_loop.setdefault(waiter.get_loop(), []).append(waiter)
    here = _running_loop()
    for loop, own in by_loop.items():
        if loop is here:
            _resolve(*own)
            continue
        try:
            loop.call_soon_threadsafe(_resolve, *own)
        except RuntimeError:
            # The loop is closed: whoever waited in it is gone.
            continue


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _resolve(*waiters: Waiter) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)

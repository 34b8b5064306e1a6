"""Who harms the run: one fault after the other, at random by the seed, each undone after a while."""

from __future__ import annotations

import heapq
import itertools
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.cast import Actor
from tests.torture.programs import NEW, OLD

Undo = Callable[[], None]


@dataclass
class Harm:
    """Something that can be done to the run.

    `strike` does it and returns how to undo it, or `None`; `lasts_s` says from when to when the undoing is due.
    """

    name: str
    weight: float
    strike: Callable[[], Undo | None]
    lasts_s: tuple[float, float] = (0.0, 0.0)


@dataclass
class Nemesis:
    """Strikes until time is up. `deaths` are processes that ended without being told to."""

    workers: Sequence[Actor]
    clients: Sequence[Actor]
    folder: Path
    random: random.Random
    pause_s: float
    stop_s_max: float
    rolls: Sequence[tuple[float, str]] = ((0.25, NEW), (0.5, OLD), (0.7, NEW))
    """At which parts of the time all workers are restarted with which version: there, back, and there again, so that
    what began with the new code has to wait until it is back."""
    counts: Counter[str] = field(default_factory=Counter[str])
    deaths: list[str] = field(default_factory=list[str])
    harms: list[Harm] = field(default_factory=list[Harm])
    last_at: float = 0.0
    _stopped: set[str] = field(default_factory=set[str])
    _undoes: list[tuple[float, int, Undo]] = field(default_factory=list[tuple[float, int, Undo]])
    _number: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.harms += [
            Harm("worker killed", 10, lambda: self._kill(self.workers), (0.0, 1.0)),
            Harm("client killed", 3, lambda: self._kill(self.clients), (0.0, 1.0)),
            Harm("worker stopped", 4, lambda: self._freeze(self.workers), (0.1, self.stop_s_max)),
            Harm("client stopped", 1, lambda: self._freeze(self.clients), (0.1, self.stop_s_max)),
            Harm("worker drained", 2, self._drain),
        ]

    # ------------------------------------------------------------ what it does to processes

    def _pick(self, actors: Sequence[Actor]) -> Actor | None:
        """Pick one that is neither stopped nor between two lives."""
        there = [actor for actor in actors if actor.is_running and actor.name not in self._stopped]
        return self.random.choice(there) if there else None

    def _kill(self, actors: Sequence[Actor]) -> Undo | None:
        actor = self._pick(actors)
        if actor is None:
            return None
        if not actor.kill():
            self.deaths.append(actor.name)
        return actor.start

    def _freeze(self, actors: Sequence[Actor]) -> Undo | None:
        actor = self._pick(actors)
        if actor is None or not actor.signal(signal.SIGSTOP):
            return None
        self._stopped.add(actor.name)

        def go_on() -> None:
            self._stopped.discard(actor.name)
            # A stopped one is killed now and then: what it held must come free all the same.
            if self.random.random() < 0.3:
                actor.kill()
                self.counts["stopped one killed"] += 1
                actor.start()
            else:
                actor.signal(signal.SIGCONT)

        return go_on

    def _drain(self) -> Undo | None:
        actor = self._pick(self.workers)
        if actor is None:
            return None
        actor.signal(signal.SIGTERM)

        def begin_anew() -> None:
            actor.wait()
            actor.start()

        return begin_anew

    def roll(self, version: str) -> None:
        """Restart all workers, one after the other, with the code of another version."""
        if version == OLD:
            (self.folder / "version").write_text(OLD)
        for worker in self.workers:
            worker.command[worker.command.index("--version") + 1] = version
            if worker.is_running and worker.name not in self._stopped:
                worker.drain()
                worker.start()
        if version == NEW:
            (self.folder / "version").write_text(NEW)
        self.counts[f"rolled to {version}"] += 1

    # ------------------------------------------------------------ time

    def run(self, seconds: float) -> None:
        """Strike for so long; then undo everything, with every process running."""
        began = time.monotonic()
        rolls = [(seconds * part, version) for part, version in self.rolls]
        due = began + self._next_pause()
        while (now := time.monotonic()) < began + seconds:
            if rolls and now - began >= rolls[0][0]:
                self.roll(rolls.pop(0)[1])
            elif self._undoes and self._undoes[0][0] <= now:
                heapq.heappop(self._undoes)[2]()
            elif due <= now:
                self.strike()
                due = time.monotonic() + self._next_pause()
            else:
                next_at = min([due, began + seconds, *(at for at, _, _ in self._undoes[:1])])
                threading.Event().wait(max(min(next_at - now, 0.5), 0.001))
        self.last_at = time.time()
        while self._undoes:
            heapq.heappop(self._undoes)[2]()
        for actor in (*self.workers, *self.clients):
            if not actor.is_running:
                self.deaths.append(actor.name)
                actor.start()

    def _next_pause(self) -> float:
        return self.random.expovariate(1 / self.pause_s)

    def strike(self) -> None:
        """Do one harm."""
        harm = self.random.choices(self.harms, [harm.weight for harm in self.harms])[0]
        undo = harm.strike()
        if undo is None:
            return
        self.counts[harm.name] += 1
        at = time.monotonic() + self.random.uniform(*harm.lasts_s)
        heapq.heappush(self._undoes, (at, next(self._number), undo))

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(count for name, count in self.counts.items() if name.endswith("killed"))

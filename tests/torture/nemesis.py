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
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.torture.cast import END_S, Actor
from tests.torture.life import TRY_AGAIN
from tests.torture.programs import NEW, OLD

Undo = Callable[[], None]
_LOOK_S: Final = 0.02
"""Between two looks at a process that is to end."""
_BEHIND_S_MAX: Final = 5.0
"""Harms that could not be done in time are done later, at once, as far as this."""


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
    _strikes: int = 0
    _version: str = OLD
    _stopped: set[str] = field(default_factory=set[str])
    _away: set[str] = field(default_factory=set[str])
    _undoes: list[tuple[float, int, Undo]] = field(default_factory=list[tuple[float, int, Undo]])
    _number: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.harms += [
            Harm("worker killed", 20, lambda: self._kill(self.workers), (0.0, 1.0)),
            Harm("client killed", 5, lambda: self._kill(self.clients), (0.0, 1.0)),
            Harm("worker stopped", 4, lambda: self._freeze(self.workers), (0.1, self.stop_s_max)),
            Harm("client stopped", 1, lambda: self._freeze(self.clients), (0.1, self.stop_s_max)),
            Harm("worker drained", 2, self._drain),
        ]

    # ------------------------------------------------------------ what it does to processes

    def _pick(self, actors: Sequence[Actor], *, or_draining: bool = False) -> Actor | None:
        """Pick one that is neither stopped nor between two lives."""
        there = self._there(actors, or_draining=or_draining)
        return self.random.choice(there) if there else None

    def _there(self, actors: Sequence[Actor], *, or_draining: bool = False) -> list[Actor]:
        return [
            actor
            for actor in actors
            if actor.is_running
            and actor.name not in self._stopped
            and (or_draining or actor.name not in self._away)
        ]

    def _kill(self, actors: Sequence[Actor]) -> Undo | None:
        actor = self._pick(actors, or_draining=True)
        if actor is None:
            return None
        actor.kill()
        if actor.name in self._away:
            # It was told to end, and whoever waits for that starts it again.
            return _nothing
        self._away.add(actor.name)
        return lambda: self._start(actor)

    def _start(self, actor: Actor) -> None:
        self._away.discard(actor.name)
        actor.start()

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
                self._note("stopped one killed")
                actor.start()
            else:
                actor.signal(signal.SIGCONT)

        return go_on

    def _drain(self) -> Undo | None:
        actor = self._pick(self.workers)
        if actor is None:
            return None
        return self._begin_anew(actor)

    def _begin_anew(self, actor: Actor, then: Callable[[], None] | None = None) -> Undo:
        """Tell a process to end; return what starts it again once it has, and then does `then`. Nobody waits for it."""
        actor.signal(signal.SIGTERM)
        self._away.add(actor.name)
        deadline = time.monotonic() + END_S

        def look() -> None:
            if actor.is_running and time.monotonic() < deadline:
                self._later(_LOOK_S, look)
                return
            self._judge_end(actor, is_late=actor.is_running)
            self._start(actor)
            if then is not None:
                then()

        return look

    def _judge_end(self, actor: Actor, *, is_late: bool) -> None:
        """Note how a process ended that was told to, if that was not in order."""
        code = actor.wait(0.0)
        if is_late:
            self._note("drained too slowly")
        elif code == TRY_AGAIN:
            self._note("drained while the hub was away")
        # It may have been killed meanwhile, or told to end before it could have heard of it.
        elif code not in (0, -signal.SIGKILL, -signal.SIGTERM):
            self.deaths.append(f"{actor.name}: exit code {code} when it was to end")

    def roll(self, version: str) -> None:
        """Restart all workers, one after the other, with the code of another version."""
        self._version = version
        if version == OLD:
            (self.folder / "version").write_text(OLD)
        for worker in self.workers:
            worker.command[worker.command.index("--version") + 1] = version
        left = list(self.workers)

        def next_one() -> None:
            while left:
                worker = left.pop(0)
                # One that was told to end begins anew with this version anyway.
                if worker in self._there(self.workers) and worker.plays != worker.command:
                    self._later(0.0, self._begin_anew(worker, next_one))
                    return
            # Unless they are on their way back already.
            if version == NEW == self._version:
                (self.folder / "version").write_text(NEW)
            self._note(f"rolled to {version}")

        next_one()

    # ------------------------------------------------------------ time

    def run(self, seconds: float) -> None:
        """Strike for so long; then undo everything, with every process running."""
        began = time.monotonic()
        rolls = [(seconds * part, version) for part, version in self.rolls]
        due = began + self._next_pause()
        while (now := time.monotonic()) < began + seconds:
            if rolls and now - began >= rolls[0][0]:
                self.roll(rolls.pop(0)[1])
            elif self._undo_what_is_due():
                pass
            elif due <= now:
                self._supervise()
                self.strike()
                # By the clock, not from now on: what a harm itself takes makes them no rarer.
                due = max(due + self._next_pause(), time.monotonic() - _BEHIND_S_MAX)
            else:
                next_at = min([due, began + seconds, *(at for at, _, _ in self._undoes[:1])])
                threading.Event().wait(max(min(next_at - now, 0.5), 0.001))
        self.last_at = time.time()
        for _, version in rolls:
            # Time was up first; what began with the new code ends only if that comes back.
            self.roll(version)
        self._come_to_rest()
        for actor in (*self.workers, *self.clients):
            if actor.plays != actor.command:
                # It was stopped when the others were restarted.
                self._later(0.0, self._begin_anew(actor))
        self._come_to_rest()

    def _come_to_rest(self) -> None:
        """Undo everything at once, and see to it that every process runs."""
        while self._undoes:
            heapq.heappop(self._undoes)[2]()
            if self._away:
                threading.Event().wait(_LOOK_S)
        self._supervise()

    def _supervise(self) -> None:
        """Start again what ended without being told to; only a hub that was away is a reason for that."""
        for actor in (*self.workers, *self.clients):
            if actor.is_running or actor.name in self._away:
                continue
            code = actor.wait()
            if code == TRY_AGAIN:
                self.counts["started in vain"] += 1
            else:
                self.deaths.append(f"{actor.name}: exit code {code}")
            actor.start()

    def _undo_what_is_due(self) -> bool:
        """Undo one harm whose time is up, if there is one."""
        if not self._undoes or self._undoes[0][0] > time.monotonic():
            return False
        heapq.heappop(self._undoes)[2]()
        return True

    def _next_pause(self) -> float:
        return self.random.expovariate(1 / self.pause_s)

    def strike(self) -> None:
        """Do one harm; every fourth time one that was not done yet, so that a short run has some of each."""
        self._strikes += 1
        owed = [harm for harm in self.harms if not self.counts[harm.name]]
        among = owed if owed and self._strikes % 4 == 0 else self.harms
        harm = self.random.choices(among, [harm.weight for harm in among])[0]
        undo = harm.strike()
        if undo is None:
            return
        self._note(harm.name)
        self._later(self.random.uniform(*harm.lasts_s), undo)

    def _note(self, what: str) -> None:
        self.counts[what] += 1
        with (self.folder / "harms.txt").open("a") as file:
            file.write(f"{datetime.now(UTC):%H:%M:%S.%f} {what}\n")

    def _later(self, seconds: float, undo: Undo) -> None:
        heapq.heappush(self._undoes, (time.monotonic() + seconds, next(self._number), undo))

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(count for name, count in self.counts.items() if name.endswith("killed"))


def _nothing() -> None:
    """There is nothing to be undone."""

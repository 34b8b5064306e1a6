"""How long an activity that only computes may keep Python's lock from all other threads of its process.

A thread that wants the lock waits for the interpreter's switch interval, 5 ms unless the program says otherwise,
whenever it comes back from a look at the disk or the network, as the hub's threads do hundreds of times a second. The
interval is one for the whole process, so it is shortened only while an activity takes long
(docs/decisions/0038-a-shorter-switch-interval-beside-long-activities.md).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence

__all__ = ["LongUnits", "SwitchInterval", "switch_interval"]

_LOOK_S = 0.02
"""How often threads are looked at while they work; a unit that is in one at two looks takes long."""


class SwitchInterval:
    """The process's switch interval: shortened while anybody asks for it, then as it was."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: list[float] = []
        self._before_s = 0.0
        self._ours_s = 0.0

    def shorten(self, interval_s: float) -> None:
        """Have at most ``interval_s`` until :meth:`restore` is called with the same."""
        with self._lock:
            if not self._asked:
                self._before_s = self._ours_s = sys.getswitchinterval()
            self._asked.append(interval_s)
            self._apply()

    def restore(self, interval_s: float) -> None:
        """Take back one call of :meth:`shorten`."""
        with self._lock:
            self._asked.remove(interval_s)
            self._apply()

    def _apply(self) -> None:
        if sys.getswitchinterval() != self._ours_s:
            return  # the program has set its own meanwhile, which stays
        sys.setswitchinterval(min((self._before_s, *self._asked)))
        self._ours_s = sys.getswitchinterval()  # rounded to microseconds


switch_interval = SwitchInterval()
"""The one of this process."""


class LongUnits:
    """Shortens the switch interval while a thread's unit of work takes long, as one that only computes does.

    Used on one loop; each thread writes what it runs to its place in ``running``, and ``None`` before it says that the
    unit has ended.
    """

    def __init__(
        self,
        running: Sequence[object | None],
        interval_s: float,
        call_later: Callable[[float, Callable[[], None]], object],
        switching: SwitchInterval,
    ) -> None:
        self.are_watched = False
        self._running = running
        self._interval_s = interval_s
        self._call_later = call_later
        self._switching = switching
        self._seen: Sequence[object | None] = ()
        self._long: list[object] = []

    def watch(self) -> None:
        """Look at the threads until none of them works, or one is found to take long."""
        self.are_watched = True
        self._seen = list(self._running)
        self._call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        seen, self._seen = self._seen, ()
        if not self.are_watched:
            return  # closed
        running = list(self._running)
        self._long = [
            unit for unit, before in zip(running, seen, strict=True) if unit is before and unit is not None
        ]
        if self._long:
            self._switching.shorten(self._interval_s)
        else:
            self._watch_on()

    def _watch_on(self) -> None:
        if any(unit is not None for unit in self._running):
            self.watch()
        else:
            self.are_watched = False

    def ended(self, units: Sequence[object]) -> None:
        """Take note of units that have ended."""
        if self._long:
            ids = set(map(id, units))
            self._long = [unit for unit in self._long if id(unit) not in ids]
            if not self._long:
                self._switching.restore(self._interval_s)
                self._watch_on()

    def close(self) -> None:
        """Watch nobody any more; what still runs is left alone."""
        self.are_watched = False
        if self._long:
            self._long = []
            self._switching.restore(self._interval_s)

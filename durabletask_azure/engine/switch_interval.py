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
_SELDOM_S = 0.2
"""How often while one does."""


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
        # Python cuts it to whole microseconds, and takes none that is 0, but may have one that is.
        sys.setswitchinterval(min((self._before_s, *self._asked)) + 0.5e-6)
        self._ours_s = sys.getswitchinterval()


switch_interval = SwitchInterval()
"""The one of this process."""


class LongUnits:
    """Shortens the switch interval while a thread's unit of work takes long, as one that only computes does.

    Used on one loop; each thread writes what it runs to its place in ``running``. ``has_units`` says whether any unit
    is about that may get into a thread.
    """

    def __init__(
        self,
        running: Sequence[object | None],
        has_units: Callable[[], bool],
        interval_s: float,
        call_later: Callable[[float, Callable[[], None]], object],
        switching: SwitchInterval,
    ) -> None:
        self.are_watched = False
        self._running = running
        self._has_units = has_units
        self._interval_s = interval_s
        self._call_later = call_later
        self._switching = switching
        self._seen: Sequence[object | None] = ()
        self._is_short = False
        self._is_closed = False

    def watch(self) -> None:
        """Look at the threads until there are no units any more."""
        if not self._is_closed:
            self.are_watched = True
            self._seen = list(self._running)
            self._call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        if self._is_closed:
            return
        seen, self._seen = self._seen, list(self._running)
        takes_long = any(
            unit is not None and unit is before for unit, before in zip(self._seen, seen, strict=True)
        )
        self._switch(takes_long)
        if not self._has_units():
            self.are_watched = False
            self._seen = ()
        else:
            self._call_later(_SELDOM_S if takes_long else _LOOK_S, self._look)

    def _switch(self, is_short: bool) -> None:
        if is_short != self._is_short:
            self._is_short = is_short
            (self._switching.shorten if is_short else self._switching.restore)(self._interval_s)

    def close(self) -> None:
        """Watch nobody any more; what still runs is left alone."""
        self._is_closed = True
        self._seen = ()
        self._switch(False)

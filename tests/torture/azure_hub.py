"""The Azure hub under torture: Azurite, an emulator that persists, and proxies of their own for every process.

Azurite keeps up to five seconds of writes in memory, so it is cut off but never killed; the emulator is both.
"""

from __future__ import annotations

import random
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

from azurite.start import RunningAzurite
from durabletask_azure.targets import HubNames
from tests.torture.hubs import LOCK_S
from tests.torture.nemesis import Harm, Undo
from tests.wire.http_gate import HttpRule
from tests.wire.leftovers import leftovers
from tests.wire.pipe import DIRECTIONS
from tests.wire.proxy import TcpProxy
from tests.wire.services import EmulatorProcess, Front, WireServices, until_healthy


class WireHub:
    """A hub on Azurite and the emulator, and the harm that can be done to it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.names = HubNames(hub=f"torture{uuid.uuid4().hex[:8]}")
        self._random = random.Random(seed)
        self._azurite = RunningAzurite().start()
        self._emulator = EmulatorProcess(folder / "log-emulator.txt", folder / "broker.db").start()
        self.services = WireServices(self._azurite, self._emulator)
        self.cuts = 0

    # ------------------------------------------------------------ what a run needs

    def environment(self, actor: str | None) -> dict[str, str]:
        """Return what a process finds it by: through proxies of its own, or straight."""
        return self.services.environment(self.names.hub, actor) | {
            "DURABLETASK_LOCK_DURATION_S": str(LOCK_S),
            "DURABLETASK_CREATE_IF_MISSING": "true",
        }

    def leftovers(self) -> list[str]:
        """Return what is in it besides tombstones, locks and announcements, a line each."""
        _, storage = self.services.connection_strings
        return leftovers(storage, self.names, self._emulator)

    def close(self) -> None:
        """End what was started for it."""
        self.services.stop_fronts()
        self._emulator.kill()
        self._azurite.kill()

    # ------------------------------------------------------------ harm

    def harms(self) -> list[Harm]:
        """Return what can be done to it besides to its processes."""
        return [
            Harm("connections cut", 12, self._cut),
            Harm("bus half-open", 2, lambda: self._bus(self._swallow), (0.2, LOCK_S * 1.5)),
            Harm("bus held", 2, lambda: self._bus(lambda proxy: proxy.hold()), (0.1, LOCK_S * 1.5)),
            Harm("bus refused", 1, lambda: self._bus(lambda proxy: proxy.refuse()), (0.1, 3.0)),
            Harm("slow", 2, self._slow, (0.5, 4.0)),
            Harm("storage half-open", 1, lambda: self._storage(self._swallow), (0.2, LOCK_S * 1.5)),
            Harm("storage refused", 1, lambda: self._storage(lambda proxy: proxy.refuse()), (0.1, 3.0)),
            Harm("storage busy", 2, self._busy, (0.5, 3.0)),
            Harm("replies of storage lost", 4, self._lose_replies),
            Harm("broker restarted", 2, self._restart),
            Harm("broker stopped", 1, self._stop_broker, (0.1, 3.0)),
        ]

    def _front(self) -> Front:
        return self._random.choice(list(self.services.fronts))

    def _cut(self) -> Undo | None:
        front = self._front()
        proxy = self._random.choice(front.proxies)
        count = self._random.choice((1, 2, None))
        if not proxy.cut(count, reset=self._random.random() < 0.7):
            return None
        self.cuts += 1
        return _nothing

    def _bus(self, strike: Callable[[TcpProxy], object]) -> Undo:
        proxy = self._front().bus
        strike(proxy)
        return proxy.heal

    def _storage(self, strike: Callable[[TcpProxy], object]) -> Undo:
        proxy = self._random.choice(self._front().storage)
        strike(proxy)
        return proxy.heal

    def _swallow(self, proxy: TcpProxy) -> None:
        proxy.swallow(self._random.choice((*DIRECTIONS, None)))

    def _slow(self) -> Undo:
        front = self._front()
        for proxy in front.proxies:
            proxy.delay(self._random.uniform(0.0, 0.2), jitter_s=0.1)
        return front.heal

    def _busy(self) -> Undo:
        front = self._front()
        status = self._random.choice((429, 503))
        rule = HttpRule("refuse", status=status, retry_after_s=1, count=None)
        for rules in (front.table_rules, front.blob_rules):
            rules.add(rule)

        def stop() -> None:
            front.table_rules.clear()
            front.blob_rules.clear()

        return stop

    def _lose_replies(self) -> Undo:
        action = self._random.choice(("land-then-cut", "land-then-refuse", "cut"))
        status = self._random.choice((500, 503))
        count = self._random.randint(1, 3)
        self._front().table_rules.add(HttpRule(action, status=status, method="POST|PUT|MERGE", count=count))
        return _nothing

    def _restart(self) -> Undo:
        self._emulator.restart()
        return _nothing

    def _stop_broker(self) -> Undo:
        self._emulator.signal(signal.SIGSTOP)

        def go_on() -> None:
            self._emulator.signal(signal.SIGCONT)
            until_healthy(self._emulator)

        return go_on


def _nothing() -> None:
    """There is nothing to be undone."""

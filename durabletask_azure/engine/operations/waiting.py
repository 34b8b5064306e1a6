"""Waiting for an instance: its changes wake the waiter, and a poll that slows down does where they do not.

For the end of an instance there is a shorter way, where the hub has it (``ports.Express``): no coroutine waits, and no
row is read if this process wrote it. Only what lasts long gets a coroutine, which also looks by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.engine.instances import InstanceReader, InstanceReport, report_of
from durabletask_azure.engine.operations.asked import Asked
from durabletask_azure.errors import DurableTaskError
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings

__all__ = ["Waiting"]

_PROMPT_POLL_S = 10.0
_PROMPT_POLL_S_MAX = 60.0
"""A waiting client looks by itself after the first, growing to the second, where every change is told anyway."""

_AGE_S = 5.0
"""Who has waited for an end for one to two of these without a coroutine gets one. Shorter waits have it at once."""


class Waiting:
    """Waits for instances of one hub."""

    def __init__(self, ports: HubPorts, settings: Settings, instances: InstanceReader) -> None:
        self._ports = ports
        self._settings = settings
        self._instances = instances
        self._young: set[_Ending] = set()
        self._old: set[_Ending] = set()
        self._ageing: asyncio.Task[None] | None = None

    async def wait_for_start(self, instance_id: str, timeout_s: float) -> InstanceRow:
        """Return the row once the instance has left PENDING. Raises ``TimeoutError``."""
        return await self._wait_until(
            instance_id, lambda row: row.status is not RuntimeStatus.PENDING, timeout_s, "start"
        )

    async def wait_for_completion(self, instance_id: str, timeout_s: float) -> InstanceRow:
        """Return the row once the instance has ended. Raises ``TimeoutError``."""
        return await self._wait_until(
            instance_id, lambda row: row.status.is_terminal, timeout_s, "complete", ended=True
        )

    async def completion(self, instance_id: str, timeout_s: float, *, fetch_payloads: bool) -> InstanceReport:
        """Return the report of the instance once it has ended. Raises ``TimeoutError``, and what reading it raises."""
        row = await self.wait_for_completion(instance_id, timeout_s)
        return await self._instances.report(row, fetch_payloads=fetch_payloads)

    def completion_at_once(
        self, instance_id: str, timeout_s: float, asked: Asked[InstanceReport], *, fetch_payloads: bool
    ) -> bool:
        """Begin to wait and have ``asked`` told what :meth:`completion` returns; return false if that takes the
        coroutine from its beginning."""
        express = self._ports.express
        if express is None or timeout_s < 2 * _AGE_S:
            return False
        ending = _Ending(self, instance_id, self._ports.clock.monotonic() + timeout_s, fetch_payloads, asked)
        self._young.add(ending)
        ending.leave = express.attend_end(self._instances.partition_of(instance_id), instance_id, ending.told)
        asked.quit = ending.quit
        if self._ageing is None:
            self._ageing = asyncio.create_task(self._age())
        return True

    def found(self, ending: _Ending, row: InstanceRow | None) -> None:
        """Answer who waits for an end with the row, or go on by a coroutine."""
        self.forget(ending)
        asked, fetch_payloads = ending.asked, ending.fetch_payloads
        if row is None:
            left_s = max(0.0, ending.deadline - self._ports.clock.monotonic())
            asked.go_on(lambda: self.completion(ending.instance_id, left_s, fetch_payloads=fetch_payloads))
            return
        try:
            report = report_of(row, {}, fetch_payloads=fetch_payloads)
        except (
            DurableTaskError
        ):  # a value is not in the row, or cannot be read, which then is the call's error
            asked.go_on(lambda: self._instances.report(row, fetch_payloads=fetch_payloads))
        else:
            asked.answer(report)

    def forget(self, ending: _Ending) -> None:
        """Forget who waits for an end no more."""
        self._young.discard(ending)
        self._old.discard(ending)

    async def _age(self) -> None:
        try:
            while self._young or self._old:
                await self._ports.clock.sleep(_AGE_S)
                for ending in [*self._old]:
                    ending.leave()
                    self.found(ending, None)
                self._old, self._young = self._young, set()
        finally:
            self._ageing = None

    async def _wait_until(
        self,
        instance_id: str,
        done: Callable[[InstanceRow], bool],
        timeout_s: float,
        what: str,
        *,
        ended: bool = False,
    ) -> InstanceRow:
        row: InstanceRow | None = None

        def look(found: InstanceRow | None) -> bool:
            nonlocal row
            row = found
            return found is not None and done(found)

        try:
            await self.until(instance_id, look, timeout_s, ended=ended)
        except TimeoutError:
            unknown = f": there is no instance {instance_id!r}" if row is None else ""
            raise TimeoutError(f"Timed-out waiting for the orchestration to {what}{unknown}") from None
        assert row is not None
        return row

    async def until(
        self,
        instance_id: str,
        done: Callable[[InstanceRow | None], bool],
        timeout_s: float,
        *,
        ended: bool = False,
    ) -> None:
        """Look at a row until ``done(row)``, woken by its changes (with ``ended``: by its end) and by a slow poll.

        Where changes are not told at once, the poll begins quickly and slows down.

        Raises:
            TimeoutError: it is not done after ``timeout_s`` seconds.
        """
        clock, settings = self._ports.clock, self._settings
        changes = self._ports.changes
        deadline = clock.monotonic() + timeout_s
        if changes.is_prompt:
            pause_s, poll_s_max = _PROMPT_POLL_S, _PROMPT_POLL_S_MAX
        else:
            pause_s, poll_s_max = settings.poll_s_min, settings.poll_s_max
        watch = changes.watch(self._instances.partition_of(instance_id), instance_id, ended=ended)
        try:
            while True:
                stored = await self._instances.stored(instance_id)
                if done(None if stored is None else stored.row):
                    return
                left_s = deadline - clock.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                await watch.wait(min(pause_s, left_s))
                pause_s = min(pause_s * 2, poll_s_max)
        finally:
            watch.close()


class _Ending:
    """One who waits for an instance's end without a coroutine."""

    __slots__ = ("_waiting", "asked", "deadline", "fetch_payloads", "instance_id", "leave")

    def __init__(
        self,
        waiting: Waiting,
        instance_id: str,
        deadline: float,
        fetch_payloads: bool,
        asked: Asked[InstanceReport],
    ) -> None:
        self._waiting = waiting
        self.instance_id = instance_id
        self.deadline = deadline
        self.fetch_payloads = fetch_payloads
        self.asked = asked
        self.leave: Callable[[], None] = _nothing

    def told(self, row: InstanceRow | None) -> None:
        self._waiting.found(self, row)

    def quit(self) -> None:
        self._waiting.forget(self)
        self.leave()


def _nothing() -> None:
    """Nothing is to be left yet."""

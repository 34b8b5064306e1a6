"""Waiting for an instance: its changes wake the waiter, and a poll that slows down does where they do not."""

from __future__ import annotations

from collections.abc import Callable

from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.engine.instances import InstanceReader
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings

__all__ = ["Waiting"]

_PROMPT_POLL_S = 10.0
_PROMPT_POLL_S_MAX = 60.0
"""A waiting client looks by itself after the first, growing to the second, where every change is told anyway."""


class Waiting:
    """Waits for instances of one hub."""

    def __init__(self, ports: HubPorts, settings: Settings, instances: InstanceReader) -> None:
        self._ports = ports
        self._settings = settings
        self._instances = instances

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

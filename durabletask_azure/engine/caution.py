"""Tasks that may be what ends their workers: each runs by itself, and nothing else is at stake meanwhile (F30).

A task handed out ``careful_delivery_count`` times is suspect, and so is each that was merely beside it as often. So a
suspect starts only when the worker has nothing else that began lately, every other task is back in the queue, without
its counting as a delivery, and none is taken until it has ended or has lived for the time of a lock. Thus what kills
uses up its own deliveries only, and what was beside it ends in peace, its result sent.

Given back uncounted means sent again, in a message that remembers the deliveries of the one it takes the place of.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import msgspec

from durabletask_azure.core.messages import ToActivities
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.core.registry import Registry
from durabletask_azure.engine.retrying import patiently
from durabletask_azure.engine.taken_task import TakenTask
from durabletask_azure.errors import PartitionLostError
from durabletask_azure.ports import ActivityDelivery, FetchesAhead, HubPorts
from durabletask_azure.settings import Settings

__all__ = ["Caution"]

_log = logging.getLogger("durabletask_azure.engine.activities")


class Caution:
    """One activity loop's care: whether it is taken now, and what is done for it."""

    def __init__(
        self, ports: HubPorts, registry: Registry, settings: Settings, keep_going: Callable[[], bool]
    ) -> None:
        self._ports = ports
        self._registry = registry
        self._settings = settings
        self._keep_going = keep_going
        self._until = float("-inf")

    def left_s(self) -> float:
        """Return for how long tasks are taken one at a time, each when the one before has ended; 0 if they are not."""
        return max(0.0, self._until - self._ports.clock.monotonic())

    def is_on(self, waiting: Iterable[TakenTask]) -> bool:
        """Return whether care is taken now; a suspect among those that wait begins it.

        It lasts for the time of a lock: what has lived so long may just take long.
        """
        if any(map(self._is_suspect, waiting)):
            self._until = self._ports.clock.monotonic() + self._settings.lock_s
        return self._until > self._ports.clock.monotonic()

    def _is_suspect(self, entry: TakenTask) -> bool:
        if entry.deliveries < self._settings.careful_delivery_count:
            return False
        definition = self._registry.activity(entry.task.name)
        # What runs in a process of its own ends that one only.
        return definition is not None and definition.process is None

    def is_free(self, others: Iterable[TakenTask]) -> bool:
        """Return whether a suspect may start beside these: they have been here for the time of a lock."""
        old = self._ports.clock.monotonic() - self._settings.lock_s
        return all(entry.received_at <= old for entry in others)

    async def part(
        self, waiting: Sequence[TakenTask], inside: Iterable[TakenTask]
    ) -> tuple[TakenTask | None, Sequence[TakenTask]]:
        """Put tasks that have not begun back into the queue, all but one that may start now, a suspect if there is one.

        Returns:
            That one, if there is one, and those that are in the queue again.
        """
        chosen = None
        if waiting and self.is_free(entry for entry in inside if entry not in waiting):
            chosen = next(filter(self._is_suspect, waiting), waiting[0])
        aside = [entry for entry in waiting if entry is not chosen]
        try:
            await self._set_aside(aside)
        except Exception as error:
            if not isinstance(error, PartitionLostError):  # that is: the loop stops
                _log.exception("tasks that wait for another cannot be put back uncounted")
            await self._give_back(aside)
        return chosen, aside

    async def _give_back(self, entries: Sequence[TakenTask]) -> None:
        try:
            await self._ports.activities.abandon([entry.delivery for entry in entries])
        except Exception as error:
            _log.warning("%d activity tasks stay locked until their locks expire: %r", len(entries), error)

    async def come_ahead(self) -> Sequence[ActivityDelivery]:
        """Have nothing taken ahead; return what came without having been asked for."""
        queue = self._ports.activities
        return await queue.hold_back() if isinstance(queue, FetchesAhead) else ()

    async def _set_aside(self, entries: Sequence[TakenTask]) -> None:
        copies: list[ToActivities] = []
        places: list[tuple[ActivityDelivery, None]] = []
        for entry in entries:
            again = msgspec.structs.replace(
                entry.task, id=stable_id(entry.task.id, "aside"), deliveries=entry.deliveries - 1
            )
            copies.append(ToActivities(task=again))
            places.append((entry.delivery, None))
        if not copies:
            return
        _log.info("%d activity tasks wait until one that may end its worker has run by itself", len(copies))
        queue = self._ports.activities
        for call in (lambda: queue.send(copies), lambda: queue.finish(places)):
            await patiently(
                self._ports.clock, self._settings, "putting tasks aside", call, keep_going=self._keep_going
            )

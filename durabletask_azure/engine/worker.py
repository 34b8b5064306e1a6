"""One worker of a hub: its partitions, its activities, and the dead letters, started and stopped together.

It puts the parts together and owns their life; what they do is theirs. Life: new, started, stopping, stopped; each
engine goes through it once. The ports belong to the hub and stay open.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.engine.activities import ActivityLoop
from durabletask_azure.engine.balance import Balancer
from durabletask_azure.engine.cache import WarmCache
from durabletask_azure.engine.counters import Counters
from durabletask_azure.engine.dead_letters import DeadLetterReader
from durabletask_azure.engine.executor import ActivityExecutor
from durabletask_azure.engine.partition import PartitionOwner
from durabletask_azure.engine.quiet import Quiet
from durabletask_azure.engine.retrying import kept_alive
from durabletask_azure.ports import HubPorts, PartitionSession
from durabletask_azure.settings import Settings

__all__ = ["Engine"]

_log = logging.getLogger("durabletask_azure.engine.worker")


class Engine:
    """A worker on one event loop.

    ``worker_id`` names this run of the worker, ``id_source`` returns a new random text each time (both are given by
    the caller, so that a simulation repeats itself). With ``orchestrations`` off it runs activities only and holds no
    partition; with ``activities`` off the reverse. ``activity_concurrency_max`` overrides the settings' limit.
    """

    def __init__(
        self,
        ports: HubPorts,
        registry: Registry,
        settings: Settings,
        options: RuntimeOptions,
        *,
        executor: ActivityExecutor,
        worker_id: str,
        id_source: Callable[[], str],
        activities: bool = True,
        orchestrations: bool = True,
        activity_concurrency_max: int | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        self.worker_id = worker_id
        self.counters = Counters()
        self.warm = WarmCache(settings.warm_instances_max)
        self._ports = ports
        self._registry = registry
        self._settings = settings
        self._options = options
        self._id_source = id_source
        self._tenures = 0
        self._quiet = Quiet(ports.clock, settings.lock_s)
        self._log = log or _log
        self._balancer: Balancer | None = None
        self._activities: ActivityLoop | None = None
        if orchestrations:
            self._balancer = Balancer(ports, settings, worker_id=worker_id, open_owner=self._open_owner)
        if activities:
            self._activities = ActivityLoop(
                ports,
                registry,
                settings,
                options,
                executor,
                self.counters,
                concurrency_max=activity_concurrency_max,
            )
        self._dead_letters = DeadLetterReader(ports, settings, self.counters, keep_going=self._is_running)
        self._reading: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def held_partitions(self) -> tuple[int, ...]:
        """The partitions this worker holds, in order."""
        return () if self._balancer is None else self._balancer.held

    @property
    def running_activities(self) -> int:
        """How many activities run now."""
        return 0 if self._activities is None else self._activities.running

    async def start(self) -> None:
        """Begin to work, on the running loop.

        Raises:
            RuntimeError: it was started before.
            ConfigurationError: the hub cannot give it the activities its work item filters name without others.
        """
        if self._reading is not None:
            raise RuntimeError("the worker was started already: an engine is started once")
        if self._activities is not None and self._registry.filters is not None:
            await self._ports.activities.prepare_for(self._registry.filters.activity_names)
        self._reading = asyncio.create_task(
            kept_alive(self._ports.clock, "reading dead letters", self._dead_letters.run, self._is_running)
        )
        if self._activities is not None:
            self._activities.start()
        if self._balancer is not None:
            self._balancer.start()
        self._log.info("worker %s started", self.worker_id)

    async def stop(self, grace_s: float | None = None) -> None:
        """Stop gracefully: hand partitions over at once, let activities finish for ``grace_s`` (the setting's) seconds.

        Called again while that is under way it stops at once: what runs is given back, what is unsent is sent by the
        next owner. Before :meth:`start`, and when stopped, it does nothing.
        """
        if self._reading is None:
            return
        if self._stopping is not None:
            if not self._stopping.done():
                self._hurry()
            await asyncio.shield(self._stopping)
            return
        grace_s = self._settings.stop_grace_s if grace_s is None else grace_s
        self._stopping = asyncio.create_task(self._stop(self._reading, grace_s))
        await asyncio.shield(self._stopping)

    async def _stop(self, reading: asyncio.Task[None], grace_s: float) -> None:
        self._log.info("worker %s stops", self.worker_id)
        reading.cancel()
        endings: list[asyncio.Future[None]] = [reading]
        if self._balancer is not None:
            endings.append(asyncio.ensure_future(self._balancer.stop(grace_s)))
        if self._activities is not None:
            endings.append(asyncio.ensure_future(self._activities.stop(grace_s)))
        for failed in await asyncio.gather(*endings, return_exceptions=True):
            if isinstance(failed, Exception):
                self._log.error("a part of worker %s did not stop cleanly", self.worker_id, exc_info=failed)
        self._log.info("worker %s stopped", self.worker_id)

    def _hurry(self) -> None:
        if self._balancer is not None:
            self._balancer.hurry()
        if self._activities is not None:
            self._activities.hurry()

    def _is_running(self) -> bool:
        return self._stopping is None

    def _open_owner(self, session: PartitionSession) -> PartitionOwner:
        """Begin a tenure: each has an identity of its own, so that no two ever look the same to the fence."""
        self._tenures += 1
        return PartitionOwner(
            session,
            self._ports,
            self._registry,
            self._settings,
            self._options,
            owner_id=f"{self.worker_id}:{self._tenures}:{self._id_source()}",
            warm=self.warm,
            counters=self.counters,
            quiet=self._quiet,
        )

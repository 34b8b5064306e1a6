"""Keeps the locks of the tasks a worker has, and says which are lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from durabletask_azure.engine.retrying import RETRIED
from durabletask_azure.engine.taken_task import TakenTask
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings

__all__ = ["keep_locks"]

_log = logging.getLogger("durabletask_azure.engine.activities")


async def keep_locks(
    ports: HubPorts, settings: Settings, inside: Mapping[int, TakenTask], lost: Callable[[TakenTask], None]
) -> None:
    """Renew the locks of the tasks ``inside``, thrice in the time of one, and call ``lost`` for each that is gone."""
    pause_s = settings.lock_s / 3
    while True:
        await ports.clock.sleep(pause_s)
        old = ports.clock.monotonic() - settings.lock_s / 6
        entries = [entry for entry in inside.values() if entry.received_at <= old and not entry.is_lost]
        pause_s = settings.lock_s / 3
        if not entries:
            continue
        try:
            gone = await ports.activities.renew([entry.delivery for entry in entries])
        except RETRIED as error:
            _log.warning("%d activity locks could not be renewed: %s", len(entries), error)
            pause_s = settings.lock_s / 15
            continue
        tokens = [delivery.token for delivery in gone]
        for entry in entries if gone else ():
            if entry.delivery.token in tokens and entry.key in inside:
                lost(entry)
                if entry.is_running:
                    _log.warning(
                        "the lock of activity %r of %r is lost: it may run a second time; its result is sent all the"
                        " same",
                        entry.task.name,
                        entry.task.instance_id,
                    )

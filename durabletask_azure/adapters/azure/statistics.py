"""What an Azure hub counts: instances by reading the status of each row, messages by the administration API."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from durabletask_azure.adapters.azure.administration import Administration
from durabletask_azure.adapters.azure.queue_plan import QueuePlan
from durabletask_azure.adapters.tables import HubTable
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.ports import HubCounts

__all__ = ["AzureStatistics"]


class AzureStatistics:
    """The :class:`~durabletask_azure.ports.Statistics` of an Azure hub.

    Service Bus counts whole queues, and received messages with waiting ones; counts are some seconds old.
    """

    def __init__(
        self, table: HubTable, administration: Administration | None, plans: Sequence[QueuePlan]
    ) -> None:
        self._table = table
        self._administration = administration
        self._plans = plans

    async def count(self) -> HubCounts:
        administration = self._administration
        if administration is None:
            raise ConfigurationError(
                "statistics of an Azure hub need the right Manage on the Service Bus namespace, to ask how long the"
                " queues are; AzureSettings of this process say manage=False"
            )
        (instances, kept), queues = await asyncio.gather(
            asyncio.gather(self._table.count_instances(), self._table.count_kept_letters()),
            asyncio.gather(*(administration.count(plan.name) for plan in self._plans)),
        )
        messages, tasks = queues[0], queues[1:]
        return HubCounts(
            instances=instances,
            partitions=(),
            messages_waiting=messages.active,
            messages_scheduled=messages.scheduled,
            tasks_waiting=sum(queue.active for queue in tasks),
            tasks_running=None,
            dead_waiting=sum(queue.dead for queue in queues),
            dead_kept=kept,
            stored_bytes=None,
        )

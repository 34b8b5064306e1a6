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
                "statistics of an Azure hub need the right Manage on the Service Bus namespace, to ask how long the queues"
                " are; AzureSettings of this process say manage=False"
            )
        instances, kept, *queues = await asyncio.gather(
            self._table.count_instances(),
            self._table.count_kept_letters(),
            *(administration.count(plan.name) for plan in self._plans),
        )
        found = [queue for queue in queues if queue is not None]
        messages = [queue for queue in found if queue.name == self._plans[0].name]
        tasks = [queue for queue in found if queue.name != self._plans[0].name]
        return HubCounts(
            instances=instances,
            partitions=(),
            messages_waiting=sum(queue.active_message_count or 0 for queue in messages),
            messages_scheduled=sum(queue.scheduled_message_count or 0 for queue in messages),
            tasks_waiting=sum(queue.active_message_count or 0 for queue in tasks),
            tasks_running=None,
            dead_waiting=sum(queue.dead_letter_message_count or 0 for queue in found),
            dead_kept=kept,
            stored_bytes=None,
        )

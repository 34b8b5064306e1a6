"""The queues of an Azure hub: messages to partitions and activity tasks over Service Bus, or an emulator of it."""

from durabletask_azure.adapters.servicebus.clients import client_arguments, make_client, tls_context
from durabletask_azure.adapters.servicebus.counters import WireCounters
from durabletask_azure.adapters.servicebus.queues import ServiceBusQueues, open_queues
from durabletask_azure.adapters.servicebus.translation import Entity, is_missing, translate, translated

__all__ = [
    "Entity",
    "ServiceBusQueues",
    "WireCounters",
    "client_arguments",
    "is_missing",
    "make_client",
    "open_queues",
    "tls_context",
    "translate",
    "translated",
]

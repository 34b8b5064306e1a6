"""Fills a queue of the emulator almost to its size, with messages that nobody receives: a quota within reach.

The smallest queue of Service Bus holds 1 GB. The ballast has a session of its own, which no worker asks for.
"""

from __future__ import annotations

from typing import Any

import msgspec
from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusReceiver, ServiceBusSender
from azure.servicebus.exceptions import ServiceBusQuotaExceededError

from benchmarks.wire.hub import HUB
from benchmarks.wire.servers import Servers

__all__ = ["measure"]

_SESSION = "ballast"
_BYTES = 200_000
_SMALLER_BYTES = 20_000


def measure(servers: dict[str, Any]) -> int:
    """Fill the hub's queue to partitions but for 200 to 220 KB; return how many messages that took."""
    where = msgspec.convert(servers, Servers)
    with ServiceBusClient.from_connection_string(where.service_bus, retry_total=0) as client:
        queue = f"{HUB}-orchestrations"
        made: Any = client.get_queue_receiver(queue, session_id=_SESSION)
        receiver: ServiceBusReceiver = made
        with receiver:
            sent = sum(_fill(client, queue, size) for size in (_BYTES, _SMALLER_BYTES))
            (first,) = receiver.receive_messages(1, max_wait_time=30)
            receiver.complete_message(first)
    return sent - 1


def _fill(client: ServiceBusClient, queue: str, size: int) -> int:
    """Send messages of a size until the queue is full; return how many it took."""
    made: Any = client.get_queue_sender(queue)
    sender: ServiceBusSender = made
    body = b"x" * size
    sent = 0
    with sender:
        while True:
            try:
                sender.send_messages(ServiceBusMessage(body, session_id=_SESSION))
            except ServiceBusQuotaExceededError:
                return sent
            sent += 1

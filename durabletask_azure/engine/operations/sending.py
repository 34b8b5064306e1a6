"""How a client's messages leave: large values first, each message under an id that a repetition shares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from durabletask_azure.core.messages import Message, MessageBody, ToPartition
from durabletask_azure.core.partitioning import partition_of
from durabletask_azure.core.payloads import PayloadWriter
from durabletask_azure.engine.attempts import retried
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings

__all__ = ["CONFIRM_S", "Sending"]

T = TypeVar("T")

CONFIRM_S = 30.0
"""How long a client waits for an owner to do what it was asked for."""


class Sending:
    """Sends messages to instances. ``new_id`` makes ids that never repeat."""

    def __init__(self, ports: HubPorts, settings: Settings, new_id: Callable[[], str]) -> None:
        self.new_id = new_id
        self._ports = ports
        self._settings = settings

    async def order(self, instance_id: str, body: MessageBody, writer: PayloadWriter) -> None:
        """Send an instance a message, after the large values that ``writer`` has put aside."""
        await self.upload(writer.uploads)
        await self.send(instance_id, body, message_id=self.new_id())

    async def send(
        self,
        instance_id: str,
        body: MessageBody,
        *,
        message_id: str,
        execution_id: str | None = None,
    ) -> None:
        """Send a message to the partition of its instance."""
        outbound = ToPartition(
            partition=partition_of(instance_id, self._ports.info.partitions),
            message=Message(id=message_id, instance_id=instance_id, body=body, execution_id=execution_id),
        )
        await self.retried(lambda: self._ports.orchestrations.send([outbound]))

    async def send_all(self, partition: int, messages: Sequence[Message]) -> None:
        """Send messages to instances of one partition."""
        outbound = [ToPartition(partition=partition, message=message) for message in messages]
        await self.retried(lambda: self._ports.orchestrations.send(outbound))

    def writer(self) -> PayloadWriter:
        """Return what decides which values of a message are spilled."""
        return PayloadWriter(
            partitions=self._ports.info.partitions,
            inline_bytes_max=self._settings.payload_inline_bytes_max,
            bytes_max=self._settings.payload_bytes_max,
        )

    async def upload(self, uploads: dict[str, bytes]) -> None:
        """Store spilled values."""
        for name, data in uploads.items():
            await self.retried(lambda name=name, data=data: self._ports.payloads.put(name, data))

    async def retried(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call that met a passing fault, for a while."""
        settings = self._settings
        return await retried(
            call, self._ports.clock, settings.send_retry_s_max, full_s=settings.queue_full_wait_s
        )

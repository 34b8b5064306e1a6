"""What the hub did in W1, by count, and so what the bare SDKs are to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Plan", "plan_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Operations of one run of W1; sizes are means, in bytes.

    ``entities`` are those in transactions, a lock row in each among them, the others of ``row_properties`` properties;
    ``inserts`` are single rows of the client. ``loads`` and ``results`` are reads of one row: the worker's of each new
    instance, and the client's of each that ended. ``to_partitions`` are messages with a session (wake-ups and results,
    packed or not), ``tasks`` the others; ``..._sends`` are the batches they went in. Each is received and completed
    once.
    """

    orchestrations: int
    steps: int
    partitions: int
    transactions: int
    entities: int
    entity_bytes: int
    inserts: int
    insert_bytes: int
    row_properties: int
    loads: int
    results: int
    to_partitions: int
    to_partitions_sends: int
    to_partition_bytes: int
    tasks: int
    tasks_sends: int
    task_bytes: int
    prefetch: int

    def part(self, share: float) -> Plan:
        """Return a plan of the same shape with a share of the operations: to warm up with."""

        def some(count: int) -> int:
            return max(self.partitions, round(count * share))

        return Plan(
            orchestrations=some(self.orchestrations),
            steps=some(self.steps),
            partitions=self.partitions,
            transactions=some(self.transactions),
            entities=max(some(self.entities), 2 * some(self.transactions)),
            entity_bytes=self.entity_bytes,
            inserts=some(self.inserts),
            insert_bytes=self.insert_bytes,
            row_properties=self.row_properties,
            loads=some(self.loads),
            results=some(self.results),
            to_partitions=some(self.to_partitions),
            to_partitions_sends=some(self.to_partitions_sends),
            to_partition_bytes=self.to_partition_bytes,
            tasks=some(self.tasks),
            tasks_sends=some(self.tasks_sends),
            task_bytes=self.task_bytes,
            prefetch=self.prefetch,
        )


def plan_of(
    orchestrations: int,
    steps: int,
    partitions: int,
    prefetch: int,
    storage: Mapping[str, int],
    to_partitions: Mapping[str, Any],
    tasks: Mapping[str, Any],
    row_properties: int,
) -> Plan:
    """Return the plan of a run that was counted: its storage requests, and the emulator's counts of both queues."""
    return Plan(
        orchestrations=orchestrations,
        steps=orchestrations * steps,
        partitions=partitions,
        transactions=storage["transactions"],
        entities=storage["entities in transactions"],
        entity_bytes=storage["transaction bytes"] // max(1, storage["entities in transactions"]),
        inserts=storage["inserts"],
        insert_bytes=storage["insert bytes"] // max(1, storage["inserts"]),
        row_properties=row_properties,
        loads=orchestrations,
        results=orchestrations,
        to_partitions=to_partitions["messages"],
        to_partitions_sends=to_partitions["sends"],
        to_partition_bytes=to_partitions["bytes"] // max(1, to_partitions["messages"]),
        tasks=tasks["messages"],
        tasks_sends=tasks["sends"],
        task_bytes=tasks["bytes"] // max(1, tasks["messages"]),
        prefetch=prefetch,
    )

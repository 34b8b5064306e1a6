"""Calls of people who look after a hub: its statistics, and its dead letters."""

from __future__ import annotations

import logging

from durabletask_azure.calls.arguments import Call
from durabletask_azure.calls.operations import Operations
from durabletask_azure.core.naming import check_text
from durabletask_azure.upkeep import DeadLetterInfo, HubStatistics, dead_letter_of, statistics_of

__all__ = ["UpkeepCalls"]


class UpkeepCalls:
    """Counts, and looks after dead letters."""

    def __init__(self, operations: Operations, logger: logging.Logger) -> None:
        self._operations = operations
        self._logger = logger

    def statistics(self) -> Call[HubStatistics]:
        """Count what the hub holds."""

        async def call() -> HubStatistics:
            counts, workers = await self._operations().upkeep.counts()
            return statistics_of(counts, workers, self._operations.partitions)

        return call

    def dead_letters(self) -> Call[list[DeadLetterInfo]]:
        """List the kept dead letters."""

        async def call() -> list[DeadLetterInfo]:
            return [dead_letter_of(kept) for kept in await self._operations().upkeep.dead_letters()]

        return call

    def redrive(self, letter_id: str) -> Call[list[str]]:
        """Send a dead letter again."""
        letter_id = check_text(letter_id, "letter_id")
        self._logger.info("redriving dead letter %r", letter_id)
        return lambda: self._operations().upkeep.redrive(letter_id)

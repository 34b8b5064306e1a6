"""What clients ask an embedded hub for most, without a coroutine for each: starts, and the ends of instances."""

from __future__ import annotations

from collections.abc import Callable

from durabletask_azure.adapters.local.ends import Ends, Told
from durabletask_azure.adapters.local.intake import LocalIntake
from durabletask_azure.adapters.local.starts import Outcome, Starts
from durabletask_azure.core.messages import Outbound
from durabletask_azure.core.rows import InstanceRow

__all__ = ["LocalExpress"]


class LocalExpress:
    """The :class:`~durabletask_azure.ports.Express` of an embedded hub."""

    def __init__(self, intake: LocalIntake, starts: Starts, ends: Ends) -> None:
        self._intake = intake
        self._starts = starts
        self._ends = ends

    def begin_start(self, partition: int, row: InstanceRow, wake_up: Outbound, told: Outcome) -> bool:
        if not self._intake.has_room_for_a_start():
            return False
        self._starts.begin(partition, row, None, (wake_up,), told)
        return True

    def attend_end(self, partition: int, instance_id: str, told: Told) -> Callable[[], None]:
        return self._ends.attend(partition, instance_id, told)

"""What a hub does for clients without a coroutine for each call, where it can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from durabletask_azure.core.messages import Outbound
from durabletask_azure.core.rows import InstanceRow

__all__ = ["Express"]


class Express(Protocol):
    """Offered by a hub that can tell a client's answer by a call, in the loop it was asked from; never at once.

    It spares the engine a task, and itself a request, for each of hundreds of calls. What does not go smoothly goes the
    way of the other ports.
    """

    def begin_start(
        self, partition: int, row: InstanceRow, wake_up: Outbound, told: Callable[[str | Exception], None]
    ) -> bool:
        """Insert a client's row and send its wake-up as :meth:`AtomicPlans.start` does, and tell the ETag or the error.

        Return false, and do nothing, if :class:`Intake` would have it wait.
        """
        ...

    def attend_end(
        self, partition: int, instance_id: str, told: Callable[[InstanceRow | None], None]
    ) -> Callable[[], None]:
        """Tell the row that an instance has ended with, as it is stored then or was stored since.

        ``None`` is told when that cannot be found out: the row is missing or cannot be read. A ring that was lost is
        never made good here, so who waits for long looks now and then. What is returned ends the waiting; then
        nothing is told.
        """
        ...

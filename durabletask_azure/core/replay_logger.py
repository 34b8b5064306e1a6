"""A logger for orchestrators that stays silent while history is replayed.

The one place in the core that knows ``logging``: it writes nothing itself, it only asks whether to pass on.
"""

from __future__ import annotations

import logging  # noqa: TID251 - adapts the user's own logger; the core logs nothing with it
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

__all__ = ["ReplaySafeLogger"]


class ReplaySafeLogger(_Adapter):
    """Passes log messages on only when they are new; see ``OrchestrationContext.create_replay_safe_logger``."""

    def __init__(self, logger: logging.Logger, is_replaying: Callable[[], bool]) -> None:
        super().__init__(logger, {})
        self._is_replaying = is_replaying

    def isEnabledFor(self, level: int) -> bool:
        """Return whether a message of that level would be written now."""
        return not self._is_replaying() and self.logger.isEnabledFor(level)

"""Activities for worker processes, which find them by their names."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from durabletask_azure import ActivityContext


def process_double(ctx: ActivityContext, value: int) -> int:
    return 2 * value


def process_raises(ctx: ActivityContext, value: str) -> None:
    raise KeyError(value)


def process_dies_once(ctx: ActivityContext, folder: str) -> Any:
    mark = Path(folder) / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return ctx.delivery_count

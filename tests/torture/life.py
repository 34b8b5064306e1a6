"""How the processes of the torture wait, and end with the one that started them."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Coroutine
from typing import Any, Final

from durabletask_azure import TaskHubError

TRY_AGAIN: Final = 75
"""Exit code of a process that found the hub away when it began: whoever started it is to start it again."""


def run(work: Coroutine[Any, Any, None]) -> int:
    """Run a process of the torture, and return its exit code."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        asyncio.run(work)
    except TaskHubError:
        logging.getLogger("torture").exception("the hub is away")
        return TRY_AGAIN
    return 0


def end_with_parent() -> None:
    """Wait until whoever started this process is gone, however; then end at once."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


async def pause(seconds: float) -> None:
    """Let time pass between one call and the next, as a client in the world does; nothing is waited for."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    await over.wait()

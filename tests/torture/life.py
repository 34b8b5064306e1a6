"""How the processes of the torture wait, and end with the one that started them."""

from __future__ import annotations

import asyncio
import os
import signal


def end_with_parent() -> None:
    """Wait until the standard input ends, which it does when the parent is gone, however; then end at once."""
    # Not `sys.stdin`: the interpreter could not end while a thread reads from that.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


async def pause(seconds: float) -> None:
    """Let time pass between one call and the next, as a client in the world does; nothing is waited for."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    await over.wait()

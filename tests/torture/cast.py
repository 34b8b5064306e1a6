"""The processes of a torture run: workers and clients, started, killed, stopped and started again.

They are forked from a process that has imported everything: a fresh interpreter needs seconds of processor time for
that, and one that is killed every few seconds would do little else.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
END_S: Final = 30.0
_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "tests.torture.worker_process",
        "tests.torture.client_process",
        "durabletask_azure.adapters.azure",
        "durabletask_azure.adapters.local",
    ]
)


class Actor:
    """One role in the run. A process plays it; when that is killed, another does.

    Args:
        name: of the role, and of its log.
        command: a module with a function `play`, and what it is called with.
        folder: where the log goes.
        environment: variables of the process, besides those of this one.
    """

    def __init__(self, name: str, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.plays: list[str] = []
        self._log = folder / f"log-{name}.txt"
        self._process: ForkServerProcess | None = None

    def start(self) -> None:
        """Start a process for it. The last one must have ended: nobody would know of it any more."""
        assert not self.is_running, f"{self.name} plays already"
        self.plays = list(self.command)
        module, *arguments = self.command
        self._process = _FORKS.Process(
            target=_play,
            args=(module, arguments, dict(os.environ) | self.environment, str(self._log)),
            name=self.name,
            daemon=True,
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """The id of the process that plays it now."""
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether there is one that has not ended."""
        return self._process is not None and self._process.exitcode is None

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; false if the process has ended."""
        if not self.is_running:
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> bool:
        """Kill the process without warning; false if it had ended by itself."""
        was_running = self.signal(signal.SIGKILL)
        self.wait()
        return was_running

    def drain(self) -> int:
        """Have the process end in order, and return its exit code; kill it if it takes too long."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self, seconds: float = END_S) -> int:
        """Wait for the end of the process, and return its exit code; one that does not end is killed."""
        process = self._process
        assert process is not None
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
        assert process.exitcode is not None
        return process.exitcode


def _play(module: str, arguments: list[str], environment: dict[str, str], log: str) -> None:
    """Be the process of an actor: forked, so that its environment and its output are still to be set."""
    os.chdir(ROOT)
    os.environ.update(environment)
    file = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    for output in (1, 2):
        os.dup2(file, output)
    os.close(file)
    sys.exit(importlib.import_module(module).play(arguments))

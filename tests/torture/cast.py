"""The processes of a torture run: workers and clients, started, killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Final

ROOT: Final = Path(__file__).resolve().parents[2]
END_S: Final = 30.0


class Actor:
    """One role in the run. A process plays it; when that is killed, another does."""

    def __init__(self, name: str, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.lives = 0
        self._log = folder / f"log-{name}.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start a process for it."""
        self.lives += 1
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", *self.command],
                cwd=ROOT,
                env=os.environ | self.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that plays it now."""
        assert self._process is not None
        return self._process

    @property
    def is_running(self) -> bool:
        """Whether there is one that has not ended."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; false if the process has ended."""
        if not self.is_running:
            return False
        self.process.send_signal(number)
        return True

    def kill(self) -> bool:
        """Kill the process without warning; false if it had ended by itself."""
        was_running = self.signal(signal.SIGKILL)
        self.wait()
        return was_running

    def drain(self) -> None:
        """Have the process end in order; kill it if it takes too long."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        self.wait()

    def wait(self, seconds: float = END_S) -> int:
        """Wait for the end of the process, and return its exit code; one that does not end is killed."""
        process = self.process
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        pipe: IO[bytes] | None = process.stdin
        if pipe is not None:
            pipe.close()
        return code

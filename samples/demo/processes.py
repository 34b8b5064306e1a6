"""Worker processes as the demo sees them: started, told to work or to stop, killed, ended."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

__all__ = ["ROOT", "DemoError", "WorkerProcess"]

ROOT = Path(__file__).resolve().parents[2]
_ANSWER_S = 30.0


class DemoError(Exception):
    """The demo cannot go on."""


class WorkerProcess:
    """One process of ``worker_main.py``; what it logs goes to ``<name>.log`` in the demo's folder."""

    def __init__(self, name: str, folder: Path, *, environment: Mapping[str, str], lines_file: Path) -> None:
        self.name = name
        self._log_file = folder / f"{name}.log"
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        command = [sys.executable, "-m", "samples.demo.worker_main"]
        command += ["--lines-file", str(lines_file)]
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        self._input: IO[str] = self._process.stdin
        self._output: IO[str] = self._process.stdout
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """The number the operating system knows the process by."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Wait until the process has opened the hub."""
        self._expect("ready")

    def start_working(self) -> None:
        """Have the worker take its share of the work."""
        self._tell("start")
        self._expect("started")

    def stop_working(self) -> None:
        """Have the worker finish what it runs and give back what it holds; the process lives on."""
        self._tell("stop")
        self._expect("stopped")

    def kill(self) -> int:
        """Kill the process without warning (SIGKILL where there is one) and return its exit code."""
        self._process.kill()
        return self._process.wait(_ANSWER_S)

    def end(self) -> None:
        """Have the process drain and end; kill it if it takes too long. Ending twice is harmless."""
        with contextlib.suppress(OSError):  # it is gone already
            self._input.close()
        try:
            self._process.wait(_ANSWER_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._listener.join(_ANSWER_S)
        self._output.close()

    def _listen(self) -> None:
        for line in self._output:
            self._answers.put(line.strip())
        self._answers.put("")

    def _tell(self, word: str) -> None:
        self._input.write(word + "\n")
        self._input.flush()

    def _expect(self, word: str) -> None:
        try:
            answer = self._answers.get(timeout=_ANSWER_S)
        except queue.Empty:
            raise DemoError(f"worker {self.name} did not say {word!r} in {_ANSWER_S:.0f} s") from None
        if answer != word:
            log = self._log_file.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise DemoError(f"worker {self.name} ended instead of saying {word!r}; its log ends with:\n{log}")

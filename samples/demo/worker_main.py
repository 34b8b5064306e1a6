"""A worker process of the demo: it works between the lines ``start`` and ``stop`` on its standard input.

It answers each with a line on its standard output, and ends, after draining, when its input ends: so it also ends when
the process that started it is gone, however that came about.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path

from durabletask_azure import TaskHub, TaskHubWorker
from samples.demo.lines import Lines
from samples.demo.orchestrations import register

__all__ = ["main"]


def main() -> None:
    """Serve the task hub that the environment names until the standard input ends."""
    parser = argparse.ArgumentParser(description="A worker process of the demo.")
    parser.add_argument("--lines-file", required=True, type=Path)
    arguments = parser.parse_args()
    # Ctrl-C reaches every process of the terminal: the demo's main process decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with TaskHub.from_env() as hub, TaskHubWorker(hub) as worker:
        register(worker, Lines(arguments.lines_file))
        _say("ready")
        for line in sys.stdin:
            if line.strip() == "start":
                worker.start()
                _say("started")
            elif line.strip() == "stop":
                worker.stop()
                _say("stopped")


def _say(word: str) -> None:
    print(word, flush=True)


if __name__ == "__main__":
    main()

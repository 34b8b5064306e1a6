"""A worker under torture, which SIGTERM drains."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from durabletask_azure import TaskHubWorker
from tests.torture.hubs import open_hub
from tests.torture.life import run
from tests.torture.programs import register


async def main(folder: Path, version: str, speed_s: float) -> None:
    async with open_hub() as hub:
        worker = TaskHubWorker(hub)
        register(worker, version, folder, speed_s)
        await worker.run()


def play(arguments: Sequence[str]) -> int:
    """Be a worker until told to end; `arguments` are `FOLDER --version 1.0`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--speed", type=float, default=0.01, help="seconds an activity takes")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return run(main(options.folder, options.version, options.speed))

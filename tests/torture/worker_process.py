"""A worker under torture: `python -m tests.torture.worker_process FOLDER --version 1.0`; SIGTERM drains it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import threading
from pathlib import Path

from durabletask_azure import TaskHubWorker
from tests.torture.hubs import open_hub
from tests.torture.life import end_with_parent
from tests.torture.programs import register


async def main(folder: Path, version: str, speed_s: float) -> None:
    async with open_hub() as hub:
        worker = TaskHubWorker(hub)
        register(worker, version, folder, speed_s)
        await worker.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--speed", type=float, default=0.01, help="seconds an activity takes")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    threading.Thread(target=end_with_parent, daemon=True).start()
    asyncio.run(main(options.folder, options.version, options.speed))

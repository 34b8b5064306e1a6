"""A worker of the workloads in a process of its own: ``python -m benchmarks.hub_worker FILE``.

It works until its standard input ends, and then prints how its connection wrote to the hub's file, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.hub_under_test import HubUnderTest, start_worker
from durabletask_azure import TaskHub

__all__ = ["main"]


def main(path: Path) -> None:
    """Work on the hub of a file."""
    with TaskHub.local(path) as hub:
        start_worker(hub)
        sys.stdin.read()
        print(json.dumps(HubUnderTest(hub, path).database()), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

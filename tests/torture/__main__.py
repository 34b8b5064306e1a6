"""`python -m tests.torture --hub file --seconds 120 --seed 7`: torture by hand; exit code 1 if anything is amiss."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.torture.hubs import FileHub
from tests.torture.run import Plan, torture


def main() -> int:
    """Run it and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--hub", choices=("file",), default="file")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long it is harmed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--inflight", type=int, default=10, help="orchestrations of a client at once")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two harms, on average")
    parser.add_argument("--folder", type=Path, help="keep everything here (default: a folder that goes)")
    options = parser.parse_args()
    plan = Plan(
        options.seconds,
        options.seed,
        workers=options.workers,
        clients=options.clients,
        inflight=options.inflight,
        pause_s=options.pause,
    )
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        folder: Path = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        hub = FileHub(folder)
        report = torture(plan, hub, folder)
        hub.close()
    print("\n".join(report.lines()))
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())

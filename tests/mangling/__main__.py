"""Mangled messages and rows in volume: `python -m tests.mangling --messages 100000 --rows 10000 --seed 1`."""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from tests.mangling.core_run import mangle_decoders, mangle_turns
from tests.mangling.hub_run import Victims, complaints

ROUND = 2_000


def main() -> None:
    """Run them, and print what became of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.mangling", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.messages:
        print("turns:", dict(mangle_turns(options.seed, options.messages)), flush=True)
        print("decoders:", dict(mangle_decoders(options.seed, options.messages)), flush=True)
    with tempfile.TemporaryDirectory() as folder, complaints() as said:
        run = Victims(Path(folder) / "hub.db", options.seed)
        try:
            run.begin()
            for done in range(0, options.messages, ROUND):
                run.mangle_messages(min(ROUND, options.messages - done))
                run.check_bystanders()
                run.add_bystanders()
            kept, total = run.dead_letters(), Counter[str]()
            print(f"hub: {options.messages} messages, dead letters {kept}", flush=True)
            while total["rows"] < options.rows:
                total += run.mangle_rows()
                run.check_bystanders()
                run.add_bystanders()
            print("hub: rows and answers", dict(total), flush=True)
        finally:
            run.close()
    print("errors of the workers themselves:", said or "none")
    if said:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

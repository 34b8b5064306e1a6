"""Mangled messages and rows in volume: `python -m tests.mangling --messages 100000 --rows 10000 --seed 1`."""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from tests.mangling.core_run import mangle_decoders, mangle_turns
from tests.mangling.hub_run import Victims, complaints
from tests.mangling.places import FilePlace

ROUND = 2_000
ROUNDS = 10


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
    dead, answers, done = Counter[str](), Counter[str](), 0
    with complaints() as said:
        while done < options.messages or answers["rows"] < options.rows:
            # A new hub now and then: what a victim is sent stays in its history.
            with tempfile.TemporaryDirectory() as folder:
                run = Victims(FilePlace(Path(folder) / "hub.db"), options.seed + done + answers["rows"])
                try:
                    run.begin()
                    for _ in range(ROUNDS):
                        if done < options.messages:
                            run.mangle_messages(ROUND)
                            done += ROUND
                        else:
                            answers += run.mangle_rows()
                        run.check_bystanders()
                        run.add_bystanders()
                    dead.update(run.dead_letters())
                finally:
                    run.close()
    print(f"hub: {done} messages, rows and answers {dict(answers)}, dead letters {dict(dead)}", flush=True)
    print("errors of the workers themselves:", said or "none")
    if said:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

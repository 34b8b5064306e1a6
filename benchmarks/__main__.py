"""``python -m benchmarks``: what can be measured, and the command line for it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import cpubound, fanout, memory, profile
from benchmarks.compare import PEERS, compare
from benchmarks.fresh import ROOT
from benchmarks.load import run as load
from benchmarks.processes import require_linux
from benchmarks.wire import run as wire

__all__ = ["main"]

_MODULES = (fanout, memory, cpubound, profile, wire)


def main(arguments: Sequence[str] | None = None) -> int:
    """Take one measurement and return the exit code: 0 when everything ran, whatever the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the hubs and their peers. What the figures mean: docs/performance.md.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    compared = commands.add_parser(
        "compare", help="W1 to W4 of our hub and its peers, interleaved, judged by the targets"
    )
    compared.add_argument(
        "--repetitions", type=_at_least_one, default=5, help="runs of each system (%(default)s)"
    )
    compared.add_argument(
        "--peers",
        nargs="*",
        choices=PEERS,
        default=list(PEERS),
        help="what to run beside our hub (all; none: only ours)",
    )
    compared.add_argument(
        "--peers-folder",
        type=Path,
        default=ROOT / "build" / "peers",
        help="where the peers are installed (build/peers)",
    )
    compared.add_argument("--out", type=Path, help="also write every run's figures to this file, as JSON")
    for module in _MODULES:
        commands.add_parser(module.COMMAND, help=module.HELP)
    load.add_options(commands.add_parser(load.COMMAND, help=load.HELP))
    for command in commands.choices.values():
        command.add_argument(
            "--small",
            action="store_true",
            help="only see that it runs: sizes so small that figures mean nothing",
        )
    options = parser.parse_args(arguments)
    require_linux()
    if options.command == "compare":
        return compare(
            repetitions=1 if options.small else options.repetitions,
            small=options.small,
            peers=options.peers,
            folder=options.peers_folder.resolve(),
            out=options.out,
        )
    if options.command == load.COMMAND:
        load.run(small=options.small, plots=options.plots, only=options.only)
        return 0
    module = {module.COMMAND: module for module in _MODULES}[options.command]
    module.run(small=options.small)
    return 0


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())

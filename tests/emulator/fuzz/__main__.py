"""Fuzz the emulator, led by coverage: `python -m tests.emulator.fuzz --runs 100000`.

Each target runs in a process of its own, so many times. What it finds stays in `build/fuzz`: the corpus, on which the
next run goes on, and an input that fails, which `--replay FILE` plays again (that needs no atheris).
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol, cast

NAMES: Final = ("codec", "broker")
FOLDER: Final = Path("build/fuzz")
# A hang; what is slow is found by the bounds in `targets.py`.
HANG_S: Final = 30
MEMORY_MB: Final = 1024
INPUT_BYTES_MAX: Final = {"codec": 4_096, "broker": 2_048}


Mutator = Callable[[bytes, int, int], bytes]


class Atheris(Protocol):
    """What is used of atheris, which not every platform has."""

    def instrument_imports(self, include: list[str]) -> AbstractContextManager[None]: ...
    def Setup(self, argv: list[str], target: Callable[[bytes], None], **mutators: Mutator) -> list[str]: ...
    def Fuzz(self) -> None: ...
    def Mutate(self, data: bytes, size_max: int) -> bytes: ...


def fuzz(name: str, runs: int, seed: int, folder: Path) -> None:
    """Fuzz one target in this process, which ends with it."""
    atheris = cast(Atheris, importlib.import_module("atheris"))
    with atheris.instrument_imports(include=["durabletask_azure.emulator"]):
        targets = importlib.import_module("tests.emulator.fuzz.targets")
    corpus = importlib.import_module("tests.emulator.fuzz.corpus")
    place = folder / name
    seeds = corpus.write_seeds(name, place / "seeds")
    (place / "corpus").mkdir(parents=True, exist_ok=True)
    print(f"{name}: {seeds} seeds", file=sys.stderr, flush=True)

    def mutate(data: bytes, size_max: int, chance: int) -> bytes:
        return corpus.mutate_stream(data, size_max, chance, atheris.Mutate)

    options = [
        f"-runs={runs}",
        f"-seed={seed}",
        f"-max_len={INPUT_BYTES_MAX[name]}",
        f"-timeout={HANG_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={place}/",
        "-print_final_stats=1",
    ]
    arguments = ["fuzz", *options, str(place / "corpus"), str(place / "seeds")]
    mutators = {"custom_mutator": mutate} if name == "broker" else {}
    atheris.Setup(arguments, targets.TARGETS[name], **mutators)
    atheris.Fuzz()


def main() -> int:
    """Run as told; return what the process should end with."""
    parser = argparse.ArgumentParser(prog="python -m tests.emulator.fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="executions of each target (100000)")
    parser.add_argument("--target", choices=NAMES, help="only this one")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzer's chance (1)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for corpus and findings (build/fuzz)")
    parser.add_argument("--replay", type=Path, help="play one input of --target and end")
    given = parser.parse_args()
    if given.replay is not None:
        if given.target is None:
            parser.error("--replay needs --target")
        importlib.import_module("tests.emulator.fuzz.targets").TARGETS[given.target](
            given.replay.read_bytes()
        )
        return 0
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed; it has wheels for CPython on x86-64 Linux only")
    if given.target is not None:
        fuzz(given.target, given.runs, given.seed, given.folder)
        return 0
    command = [
        sys.executable,
        "-m",
        "tests.emulator.fuzz",
        "--runs",
        str(given.runs),
        "--seed",
        str(given.seed),
    ]
    command += ["--folder", str(given.folder), "--target"]
    codes = [subprocess.run([*command, name], check=False).returncode for name in NAMES]  # noqa: S603
    return max(codes, key=abs)


if __name__ == "__main__":
    sys.exit(main())

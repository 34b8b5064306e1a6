"""The engine under seeded faults: whole runs, in processes of their own, so that strings hash the same every time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.faults import PROFILES
from tests.simulation.mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[2]


def simulate(*arguments: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
    """Run the simulator's command line."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(  # noqa: S603
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", [0, 100, 200])
def test_three_hundred_seeds_keep_every_invariant(first: int) -> None:
    run = simulate("--seeds", f"{first}:{first + 100}")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("first", range(300, 2_000, 100))
def test_two_thousand_seeds_keep_every_invariant(first: int) -> None:
    run = simulate("--seeds", f"{first}:{first + 100}")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("profile", ["calm", "mixed"])
def test_the_same_seed_is_the_same_run(profile: str) -> None:
    first, second = (simulate("--seed", "11", "--profile", profile) for _ in range(2))
    assert "trace" in first.stdout
    assert first.stdout.splitlines()[0] == second.stdout.splitlines()[0]


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_is_caught(name: str) -> None:
    mutant = MUTANTS[name]
    for profile in mutant.profiles:
        run = simulate(
            *("--mutant", name, "--profile", profile, "--seeds", f"0:{mutant.seeds}", "--failures", "1"),
            timeout_s=900,
        )
        if run.returncode == 1 and "broke" in run.stdout:
            return
    pytest.fail(f"{mutant.breaks}: nobody noticed")


def test_every_mutant_names_profiles_that_exist() -> None:
    assert {profile for mutant in MUTANTS.values() for profile in mutant.profiles} <= set(PROFILES)
    assert len(MUTANTS) >= 15

"""The engine under seeded faults: whole runs, in processes of their own, so that strings hash the same every time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.catalogue import WHERE
from tests.simulation.faults import PROFILES
from tests.simulation.mutants import MUTANTS
from tests.simulation.runner import killing_seeds, profile_of

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


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", [0, 60])
def test_what_is_rewound_and_reset_under_faults_keeps_every_invariant(first: int) -> None:
    run = simulate("--seeds", f"{first}:{first + 60}", "--profile", "rewinds")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", [0, 60])
def test_f30_an_orchestrator_that_ends_its_workers_uncounted_fails_and_no_innocent_does(first: int) -> None:
    run = simulate("--seeds", f"{first}:{first + 60}", "--profile", "uncounted")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(300, 2_000, 170))
def test_two_thousand_seeds_keep_every_invariant(first: int) -> None:
    run = simulate("--seeds", f"{first}:{first + 170}")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.timeout(300)
def test_every_fault_of_the_catalogue_strikes_within_its_profiles() -> None:
    # Four seeds of each profile, in one run: all but a crash between the parts of one commit are that frequent.
    run = simulate("--seeds", "0:132", timeout_s=280)
    struck = {
        number: int(count.replace(",", ""))
        for number, count in re.findall(r"\| (F\d+) \| ([\d,]+) \|", run.stdout)
    }
    assert set(struck) == set(WHERE)
    assert {number for number, count in struck.items() if not count} <= {"F23"}


@pytest.mark.parametrize("profile", ["calm", "mixed"])
def test_the_same_seed_is_the_same_run(profile: str) -> None:
    first, second = (simulate("--seed", "11", "--profile", profile) for _ in range(2))
    assert "trace" in first.stdout
    assert first.stdout.splitlines()[0] == second.stdout.splitlines()[0]


def test_a_run_does_not_depend_on_those_before_it() -> None:
    alone = simulate("--seeds", "13:14", "--profile", "mixed")
    after_others = simulate("--seeds", "10:14", "--profile", "mixed")
    assert alone.returncode == after_others.returncode == 0


@pytest.mark.timeout(300)
def test_what_once_failed_does_not_fail_again() -> None:
    run = simulate("--regressions")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_is_caught_by_its_recorded_seed(name: str) -> None:
    run = simulate("--kill", name)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.timeout(300)
def test_a_failing_run_is_made_smaller() -> None:
    seed = killing_seeds()["complete-first"]
    arguments = ("--shrink", str(seed["seed"]), "--profile", seed["profile"], "--mutant", "complete-first")
    shown = simulate(*arguments, timeout_s=280).stdout
    assert shown.startswith("after ")
    assert any(line.startswith(("L:", "B:")) for line in shown.splitlines())
    # One crash is all it takes.
    assert sum(line.startswith("fault ") for line in shown.splitlines()) == 1


def test_every_mutant_names_profiles_that_exist_and_has_a_seed() -> None:
    assert {profile for mutant in MUTANTS.values() for profile in mutant.profiles} <= set(PROFILES)
    assert set(killing_seeds()) == set(MUTANTS)
    assert len(MUTANTS) >= 15


def test_every_profile_has_its_turn() -> None:
    assert {profile_of(seed) for seed in range(len(PROFILES))} == set(PROFILES) - {"rewinds", "uncounted"}

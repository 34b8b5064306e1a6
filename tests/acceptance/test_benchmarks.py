"""Every benchmark of our own hub runs and prints its tables. No figure is judged, no peer is run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.targets import judge

ROOT = Path(__file__).resolve().parents[2]


def ran(*arguments: str) -> str:
    """Run a benchmark at its smallest and return what it printed."""
    command = [sys.executable, "-W", "error", "-m", "benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("fanout", "KiB per task"),
        ("memory", "100 generations"),
        ("load", "of 200 finished instances"),
        ("cpubound", "beside a CPU-bound activity"),
        ("profile", "the writer of the database"),
    ],
)
def test_a_benchmark_of_our_own_hub_runs(command: str, printed: str) -> None:
    assert printed in ran(command, "--small")


def test_the_comparison_runs_without_peers_and_reads_the_modes_of_the_database(tmp_path: Path) -> None:
    out = tmp_path / "runs.json"
    printed = ran("compare", "--small", "--peers", "--out", str(out))
    assert "journal_mode=wal, synchronous=FULL" in printed
    runs: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))
    assert [run["system"] for run in runs] == ["durabletask_azure"]
    assert set(runs[0]["figures"]) >= {"W1", "W1 loop", "W2", "W3 p50", "W4 5", "W4 10"}
    assert runs[0]["hub"]["durable commits"] > 0


def test_targets_are_judged_against_the_best_peer_of_each_workload() -> None:
    ours = {"W1": 800.0, "W2": 0.2, "W3 p50": 0.6, "W4 100": 0.1, "W4 800": 0.91}
    fast = {"W1": 100.0, "W2": 1.0, "W3 p50": 2.0, "W4 100": 0.3, "W4 800": 2.0}
    quick = {"W1": 50.0, "W2": 2.0, "W3 p50": 1.0, "W4 100": 0.2, "W4 800": 9.0}
    verdicts = judge({"ours": ours, "fast": fast, "quick": quick}, "ours")
    assert [verdict.passed for verdict in verdicts] == [True, False, True, True, False]
    assert [verdict.text.rpartition("(")[2] for verdict in verdicts[:4]] == [
        "fast)",
        "fast)",
        "quick)",
        "fast)",
    ]
    alone = judge({"ours": ours}, "ours")
    assert [verdict.passed for verdict in alone] == [False]

"""Every benchmark of our own hub runs and prints its tables. No figure is judged, no peer is run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.targets import judge
from benchmarks.wire.verdicts import judge_recovery, judge_wire

ROOT = Path(__file__).resolve().parents[2]


def ran(*arguments: str, seconds: float = 100) -> str:
    """Run a benchmark at its smallest and return what it printed."""
    command = [sys.executable, "-W", "error", "-m", "benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603
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
    assert [run["system"] for run in runs] == ["durabletask_azure", "durabletask_azure, 2 worker processes"]
    for run in runs:
        assert set(run["figures"]) >= {"W1", "W1 loop", "W2", "W3 p50", "W4 5", "W4 10"}
        assert run["hub"]["durable commits"] > 0
    assert len(runs[1]["peak_rss_mib"]) == 3


@pytest.mark.azure
@pytest.mark.timeout(600)
def test_the_hub_over_the_wire_is_counted_beside_the_bare_sdks() -> None:
    printed = ran("wire", "--small", seconds=580)
    for part in ("packing off", "bare SDKs", "FACTS.md", "after SIGKILL: work stood still", "after SIGTERM"):
        assert part in printed


def counted(*, messages: int, transactions: int, entities: int, inserts: int) -> dict[str, Any]:
    """Return counts of a run of a thousand steps as the benchmark over the wire has them."""
    storage = {"transactions": transactions, "entities in transactions": entities, "inserts": inserts}
    return {
        "steps": 1000,
        "storage": storage,
        "to partitions": {"messages": messages - 1000},
        "tasks": {"messages": 1000},
    }


def test_lock_rows_and_inserts_count_as_entities_and_inserts_not_as_transactions() -> None:
    packed = counted(messages=1300, transactions=300, entities=1700, inserts=200)
    unpacked = counted(messages=2200, transactions=301, entities=1800, inserts=200)
    assert all(verdict.passed for verdict in judge_wire(60.0, 100.0, packed, unpacked))
    worse = counted(messages=2201, transactions=301, entities=1701, inserts=200)
    assert not any(verdict.passed for verdict in judge_wire(59.0, 100.0, worse, worse))


def test_work_goes_on_within_the_lock_duration_and_two_seconds_or_two_seconds_after_a_stop() -> None:
    assert judge_recovery("SIGKILL", 10.0, [12.0, 1.0]).passed
    assert not judge_recovery("SIGKILL", 10.0, [12.1, 1.0]).passed
    assert judge_recovery("SIGTERM", 10.0, [2.0]).passed
    assert not judge_recovery("SIGTERM", 10.0, [2.1]).passed


def test_targets_are_judged_against_the_best_peer_of_each_workload() -> None:
    ours = {"W1": 800.0, "W2": 0.2, "W3 p50": 0.6, "W4 100": 0.1, "W4 800": 0.91}
    fast = {"W1": 100.0, "W2": 1.0, "W3 p50": 2.0, "W4 100": 0.3, "W4 800": 2.0}
    quick = {"W1": 50.0, "W2": 2.0, "W3 p50": 1.0, "W4 100": 0.2, "W4 800": 9.0}
    verdicts = judge({"ours": ours, "fast": fast, "quick": quick}, "ours", "spread")
    assert [verdict.passed for verdict in verdicts] == [True, False, True, True, False]
    assert [verdict.text.rpartition("(")[2] for verdict in verdicts[:4]] == [
        "fast)",
        "fast)",
        "quick)",
        "fast)",
    ]
    alone = judge({"ours": ours}, "ours", "spread")
    assert [verdict.passed for verdict in alone] == [False]


def test_throughput_is_judged_in_one_process_and_in_several_and_each_is_named() -> None:
    ours = {"W1": 799.0, "W2": 0.1, "W3 p50": 0.6, "W4 100": 0.1, "W4 800": 0.8}
    peer = {"W1": 100.0, "W2": 1.0, "W3 p50": 2.0, "W4 100": 0.3, "W4 800": 2.0}
    verdicts = judge({"ours": ours, "spread": {**ours, "W1": 800.0}, "peer": peer}, "ours", "spread")
    assert [verdict.passed for verdict in verdicts] == [False, True, True, True, True, True]
    assert [verdict.text.partition(":")[0] for verdict in verdicts[:2]] == ["W1", "W1 of spread"]

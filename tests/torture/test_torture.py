"""Torture in short: processes on one hub file, killed and stopped at random; nothing is lost, wrong or double."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.hubs import FileHub
from tests.torture.run import Plan, torture


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [7])
def test_f32_f34_kills_stops_and_rolling_restarts_on_one_file(tmp_path: Path, seed: int) -> None:
    report = torture(Plan(seconds=20.0, seed=seed, pause_s=0.6, stop_s_max=3.0), FileHub(tmp_path), tmp_path)
    print("\n".join(report.lines()))
    assert report.is_clean, "\n".join(report.lines())
    assert report.verdict.started > 50
    assert report.kills > 5

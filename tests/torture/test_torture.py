"""Torture in short, on one hub file and over the wire: nothing is lost, wrong or double, and nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.azure_hub import WireHub
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


@pytest.mark.azure
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_f32_f34_kills_cuts_and_restarts_over_the_wire(tmp_path: Path) -> None:
    hub = WireHub(tmp_path, seed=7)
    try:
        report = torture(Plan(seconds=120.0, seed=7, pause_s=0.8), hub, tmp_path)
    finally:
        hub.close()
    print("\n".join(report.lines()))
    assert report.is_clean, "\n".join(report.lines())
    assert report.verdict.started > 30
    # A third of what two idle processors make of it.
    assert report.kills >= 20
    assert report.harms["connections cut"] >= 8
    assert report.harms["broker restarted"] >= 1

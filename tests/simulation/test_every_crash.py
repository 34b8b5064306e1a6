"""Every canonical orchestration survives a crash at each of its worker's port calls."""

from __future__ import annotations

import pytest

from tests.simulation.exhaustive import CANONICAL, crash_everywhere


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CANONICAL)
def test_a_crash_at_every_seventh_call_changes_nothing(name: str) -> None:
    assert [text for report in crash_everywhere(name, stride=7) for text in report.failures] == []


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("atomic", [False, True], ids=["plain", "atomic"])
@pytest.mark.parametrize("name", CANONICAL)
def test_a_crash_at_any_call_changes_nothing(name: str, atomic: bool) -> None:
    assert [text for report in crash_everywhere(name, atomic=atomic) for text in report.failures] == []

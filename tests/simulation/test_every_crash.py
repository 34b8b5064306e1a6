"""Every canonical orchestration survives a crash at each of its worker's port calls, before and after the effect."""

from __future__ import annotations

import pytest

from tests.simulation.exhaustive import CANONICAL, crash_everywhere


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CANONICAL)
def test_a_crash_at_any_call_changes_nothing(name: str) -> None:
    assert [text for report in crash_everywhere(name) for text in report.failures] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CANONICAL)
def test_a_crash_at_any_call_of_an_atomic_hub_changes_nothing(name: str) -> None:
    assert [text for report in crash_everywhere(name, atomic=True) for text in report.failures] == []

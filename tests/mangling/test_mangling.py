"""What is broken or forged in queues and rows is refused with a reason, and hurts nobody else.

`python -m tests.mangling` does the same in volume: 100,000 messages and 10,000 rows.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.azure_services import AzureServices
from tests.mangling.core_run import mangle_decoders, mangle_turns
from tests.mangling.hub_run import Victims, complaints
from tests.mangling.places import AzurePlace, FilePlace


@pytest.mark.parametrize("seed", range(4))
def test_mangled_messages_are_refused_or_hurt_only_whom_they_are_for(seed: int) -> None:
    seen = mangle_turns(seed, 5_000)
    assert min(seen["refused"], seen["taken"]) > 500
    seen = mangle_decoders(seed, 5_000)
    assert min(seen.values()) > 100


@pytest.mark.timeout(300)
def test_a_hub_outlives_mangled_messages_tasks_and_rows(tmp_path: Path) -> None:
    with complaints() as said:
        run = Victims(FilePlace(tmp_path / "hub.db"), seed=1)
        try:
            run.begin()
            for _ in range(4):
                run.mangle_messages(500)
                run.check_bystanders()
                run.add_bystanders()
            assert run.dead_letters()["undecodable"] > 1_000
            total: Counter[str] = Counter()
            for _ in range(10):
                total += run.mangle_rows()
                run.check_bystanders()
                run.add_bystanders()
        finally:
            run.close()
    assert total["rows"] > 200
    assert total["list: answered"] == 10
    assert min(total["answered"], total["InstanceUnreadableError"]) > 20
    assert said == []


@pytest.mark.azure
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_azure_hub_outlives_mangled_messages_tasks_and_rows(azure_services: AzureServices) -> None:
    with complaints() as said:
        run = Victims(AzurePlace(azure_services, seed=1), seed=1)
        try:
            run.begin()
            for _ in range(2):
                run.mangle_messages(500)
                run.check_bystanders()
                run.add_bystanders()
            assert run.dead_letters()["undecodable"] > 300
            total: Counter[str] = Counter()
            for _ in range(5):
                total += run.mangle_rows()
                run.check_bystanders()
                run.add_bystanders()
        finally:
            run.close()
    assert total["rows"] > 100
    assert total["list: answered"] == 5
    assert min(total["answered"], total["InstanceUnreadableError"]) > 20
    assert said == []

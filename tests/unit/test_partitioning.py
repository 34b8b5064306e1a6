"""The hash that places instances can never change: hubs exist."""

from __future__ import annotations

import pytest

from durabletask_azure.core.partitioning import PARTITIONS_MAX, partition_name, partition_of, stable_id


@pytest.mark.parametrize(
    ("instance_id", "of_128"),
    [("", 52), ("order-1", 61), ("ORDER-1", 89), ("漢字🎈", 31), ("half \ud800", 87)],
)
def test_places_are_fixed(instance_id: str, of_128: int) -> None:
    assert partition_of(instance_id, PARTITIONS_MAX) == of_128
    assert partition_of(instance_id, 1) == 0


def test_places_are_spread() -> None:
    counts = [0] * 4
    for index in range(1_000):
        counts[partition_of(f"order-{index}", 4)] += 1
    assert min(counts) > 200


def test_names_are_lower_case_and_sort_by_number() -> None:
    assert [partition_name(number) for number in (0, 7, 127)] == ["p000", "p007", "p127"]


def test_stable_ids_depend_on_each_part_and_on_nothing_else() -> None:
    assert stable_id("x", "task", 1) == stable_id("x", "task", 1)
    assert (
        len({stable_id("x", "task", 1), stable_id("x", "task", 2), stable_id("xtask", 1), stable_id("x")})
        == 4
    )
    assert len(stable_id("\ud800")) == 32

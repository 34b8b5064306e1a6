"""Listing instances: every filter, pages, and ids that a careless adapter would trip over."""

from __future__ import annotations

import pytest

from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.ports import EndedInstance, HubPorts, InstanceFilter
from tests.contract.builders import after, instance


async def insert(ports: HubPorts, *rows: InstanceRow) -> None:
    for row in rows:
        await ports.store.insert_instance(0, row)


async def listed(ports: HubPorts, where: InstanceFilter, count_max: int = 50) -> list[str]:
    """Return the ids of all pages."""
    ids: list[str] = []
    token: str | None = None
    while True:
        page = await ports.store.query(0, where, count_max=count_max, token=token)
        assert len(page.rows) <= count_max
        ids.extend(row.instance_id for row in page.rows)
        token = page.token
        if token is None:
            return ids


async def test_a_listing_has_the_rows_without_history(ports: HubPorts) -> None:
    await insert(ports, instance("i", output='"out"', tail=b"history"))

    page = await ports.store.query(0, InstanceFilter(), count_max=10)

    assert list(page.rows) == [instance("i", output='"out"')]
    assert page.token is None


@pytest.mark.parametrize("count_max", [1, 2, 3, 7, 50])
async def test_pages_hold_every_row_once_in_order_of_id(ports: HubPorts, count_max: int) -> None:
    ids = ["a", "a!", "a b", "A", "it's", "%", "_", "é", "🎉", "\uffff", "a" * 500]
    await insert(ports, *(instance(instance_id) for instance_id in ids))

    assert await listed(ports, InstanceFilter(), count_max) == sorted(ids)


async def test_a_page_is_never_larger_than_the_settings_allow(ports: HubPorts) -> None:
    await insert(ports, *(instance(f"{number:03d}") for number in range(60)))

    page = await ports.store.query(0, InstanceFilter(), count_max=1_000_000)

    assert len(page.rows) == 50
    assert len(await listed(ports, InstanceFilter())) == 60


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("foo", ["foo", "foo-1", "foobar"]),
        ("FOO", ["FOO"]),
        ("%", ["%1"]),
        ("it's", ["it's", "it's 2"]),
        ("\U0010ffff", ["\U0010ffff", "\U0010ffff\U0010ffffx"]),
        ("\ud7ff", ["\ud7ffz"]),
        ("none", []),
    ],
)
async def test_a_prefix_finds_what_starts_with_it(ports: HubPorts, prefix: str, found: list[str]) -> None:
    ids = ["foo", "foo-1", "foobar", "fo", "fop", "FOO", "%1", "it's", "it's 2", "\U0010ffff"]
    ids += ["\U0010ffff\U0010ffffx", "\ud7ffz", "\ue000"]
    await insert(ports, *(instance(instance_id) for instance_id in ids))

    assert await listed(ports, InstanceFilter(id_prefix=prefix)) == found


async def test_statuses_and_names_are_chosen_from_lists(ports: HubPorts) -> None:
    await insert(
        ports,
        instance("1", status=RuntimeStatus.PENDING, name="a'b"),
        instance("2", status=RuntimeStatus.RUNNING, name="b"),
        instance("3", status=RuntimeStatus.FAILED, name="a'b"),
    )

    assert await listed(ports, InstanceFilter(statuses=[RuntimeStatus.PENDING, RuntimeStatus.FAILED])) == [
        "1",
        "3",
    ]
    assert await listed(ports, InstanceFilter(names=["a'b"])) == ["1", "3"]
    assert await listed(ports, InstanceFilter(names=["b", "c"], statuses=[RuntimeStatus.RUNNING])) == ["2"]


async def test_ranges_of_time_include_both_ends(ports: HubPorts) -> None:
    rows = [
        instance(
            str(number),
            created_at=after(number),
            updated_at=after(10 + number),
            completed_at=after(20 + number),
        )
        for number in range(5)
    ]
    await insert(ports, *rows, instance("open", created_at=after(99), updated_at=after(99)))

    assert await listed(ports, InstanceFilter(created_from=after(1), created_to=after(3))) == ["1", "2", "3"]
    assert await listed(ports, InstanceFilter(updated_from=after(13), updated_to=after(98))) == ["3", "4"]
    assert await listed(ports, InstanceFilter(completed_to=after(21))) == ["0", "1"]
    assert await listed(ports, InstanceFilter(completed_from=after(0))) == ["0", "1", "2", "3", "4"]


async def test_the_due_are_found_in_pages_in_order_of_id(ports: HubPorts) -> None:
    rows = [instance(str(number), due_at=after(9 - number)) for number in range(8)]
    await insert(ports, *rows, instance("never"))

    assert await listed(ports, InstanceFilter(due_before=after(5)), count_max=2) == ["4", "5", "6", "7"]


async def test_instances_with_a_reason_are_told_from_those_without(ports: HubPorts) -> None:
    await insert(ports, instance("stuck", reason="no such orchestrator"), instance("fine"))

    assert await listed(ports, InstanceFilter(with_reason=True)) == ["stuck"]
    assert await listed(ports, InstanceFilter(with_reason=False)) == ["fine"]


async def test_ids_and_versions_are_chosen_from_lists(ports: HubPorts) -> None:
    rows = [
        instance("it's"),
        instance("its", version="1"),
        instance("%", version="2'"),
        instance("a", version=""),
    ]
    await insert(ports, *rows)

    assert await listed(ports, InstanceFilter(ids=["it's", "it", "%", "it's"])) == ["%", "it's"]
    assert await listed(ports, InstanceFilter(ids=["it's", "%"]), count_max=1) == ["%", "it's"]
    assert await listed(ports, InstanceFilter(ids=["it's", "%"], id_prefix="it")) == ["it's"]
    assert await listed(ports, InstanceFilter(ids=[str(number) for number in range(50)])) == []
    assert await listed(ports, InstanceFilter(versions=["2'", "3"])) == ["%"]
    assert await listed(ports, InstanceFilter(versions=[None])) == ["it's"]
    assert await listed(ports, InstanceFilter(versions=[None, "", "1"])) == ["a", "it's", "its"]


@pytest.mark.parametrize("status", [RuntimeStatus.COMPLETED, RuntimeStatus.FAILED])
async def test_runs_that_ended_before_a_moment_are_found_the_longest_ended_first(
    ports: HubPorts, status: RuntimeStatus
) -> None:
    ended = [
        instance(f"{number}", status=status, completed_at=after(-number), execution_id=f"e{number}")
        for number in range(5)
    ]
    await insert(
        ports,
        *ended,
        instance("living"),
        instance("other", status=RuntimeStatus.TERMINATED, completed_at=after(-9)),
    )

    found = await ports.store.ended_before(0, status, after(-1), 10)
    assert list(found) == [EndedInstance(f"{number}", f"e{number}") for number in (4, 3, 2, 1)]
    # A store without an index by that time gives any two of them.
    few = await ports.store.ended_before(0, status, after(-1), 2)
    assert len(set(few)) == 2
    assert set(few) < set(found)
    assert list(await ports.store.ended_before(0, status, after(-10), 10)) == []
    assert list(await ports.store.ended_before(1, status, after(9), 10)) == []


async def test_a_token_of_another_query_is_refused(ports: HubPorts) -> None:
    await insert(ports, instance("1"), instance("2"))
    page = await ports.store.query(0, InstanceFilter(), count_max=1)
    assert page.token is not None

    for partition, where, token in [
        (0, InstanceFilter(names=["order"]), page.token),
        (1, InstanceFilter(), page.token),
        (0, InstanceFilter(), "nonsense"),
        (0, InstanceFilter(), "é"),
    ]:
        with pytest.raises(ConfigurationError):
            await ports.store.query(partition, where, count_max=1, token=token)

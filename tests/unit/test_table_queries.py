"""What of a filter the service is asked to compare, and what is compared here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from durabletask_azure.adapters.tables.queries import fits, instance_filter, read_token, write_token
from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.ports import InstanceFilter
from tests.contract.builders import after, instance

EVERYTHING = InstanceFilter(
    id_prefix="it's",
    statuses=tuple(RuntimeStatus),
    names=[f"n{number}" for number in range(20)],
    versions=["1", "2"],
    created_from=after(0),
    created_to=after(1),
    updated_from=after(0),
    updated_to=after(1),
    completed_from=after(0),
    completed_to=after(1),
    due_before=after(1),
    with_reason=True,
)
COMPARISONS = (" eq ", " le ", " ge ", " lt ", " gt ")


def comparisons(text: str) -> int:
    return sum(f" {text} ".count(each) for each in COMPARISONS)


@pytest.mark.parametrize(
    "where",
    [
        InstanceFilter(),
        EVERYTHING,
        replace(EVERYTHING, names=()),
        InstanceFilter(names=[f"n{number}" for number in range(12)]),
        InstanceFilter(names=[f"n{number}" for number in range(13)]),
        InstanceFilter(versions=[str(number) for number in range(5)], statuses=tuple(RuntimeStatus)),
    ],
)
def test_a_filter_has_no_more_comparisons_than_the_service_takes(where: InstanceFilter) -> None:
    made = instance_filter(0, where)

    assert 3 <= comparisons(made.text) <= 15
    assert comparisons(made.text) == len(made.values)


def test_what_a_user_wrote_is_never_in_the_text_of_a_filter() -> None:
    where = InstanceFilter(id_prefix="' or 1 eq 1", names=["' or 1 eq 1"], versions=["' or 1 eq 1"])

    made = instance_filter(0, where)

    assert "1 eq 1" not in made.text
    assert "' or 1 eq 1" in made.values.values()


@pytest.mark.parametrize("names", [["\ud800"], ["🎉" * 250] * 3])
def test_names_that_do_not_fit_in_an_address_are_compared_here(names: list[str]) -> None:
    assert "name" not in instance_filter(0, InstanceFilter(names=names)).text
    assert not fits(instance("i"), InstanceFilter(names=names))


def test_a_row_is_compared_with_every_field_of_a_filter() -> None:
    row = instance(
        "it's 1",
        name="n1",
        version="2",
        created_at=after(1),
        updated_at=after(1),
        completed_at=after(1),
        due_at=after(1),
        reason="why",
    )
    assert fits(row, EVERYTHING)
    assert fits(row, InstanceFilter())
    for wrong in (
        {"id_prefix": "its"},
        {"statuses": [RuntimeStatus.FAILED]},
        {"names": ["n"]},
        {"versions": [None, "1"]},
        {"created_to": after(0.5)},
        {"updated_from": after(1.5)},
        {"completed_to": after(0.5)},
        {"due_before": after(0.5)},
        {"with_reason": False},
    ):
        assert not fits(row, replace(EVERYTHING, **wrong))
    bare = instance("i")
    for where in (InstanceFilter(completed_to=after(9)), InstanceFilter(due_before=after(9))):
        assert not fits(bare, where)
    assert fits(bare, InstanceFilter(versions=[None]))


def test_a_token_is_only_good_for_the_query_it_came_from() -> None:
    where = InstanceFilter(names=["a"])
    token = write_token(1, where, {"PartitionKey": "p001", "RowKey": "i!a"})

    assert read_token(1, where, token) == {"PartitionKey": "p001", "RowKey": "i!a"}
    for partition, other, text in [
        (2, where, token),
        (1, InstanceFilter(names=["b"]), token),
        (1, where, token[:-6]),
        (1, where, "é"),
        (1, where, "bm9uc2Vuc2U="),
    ]:
        with pytest.raises(ConfigurationError):
            read_token(partition, other, text)

"""Fair shares: what each worker decides alone adds up to every partition owned, and evenly."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from durabletask_azure.core.balance import Decision, decide, shares


@dataclass(frozen=True)
class Row:
    worker_id: str
    partitions: tuple[int, ...] = ()
    stopping: bool = False


def test_shares_differ_by_at_most_one_and_add_up() -> None:
    assert shares(["c", "a", "b"], 8) == {"a": 3, "b": 3, "c": 2}
    assert shares(["a"], 4) == {"a": 4}
    assert shares(["a", "b", "c"], 2) == {"a": 1, "b": 1, "c": 0}
    assert shares([], 4) == {}


def test_a_lone_worker_seeks_everything() -> None:
    assert decide("a", [], (), 3) == Decision(seek=(0, 1, 2))


def test_a_worker_without_a_row_of_its_own_counts_itself() -> None:
    assert decide("b", [Row("a", (0, 1, 2, 3))], (), 4) == Decision()
    assert decide("a", [Row("a", (0, 1, 2, 3)), Row("b")], (0, 1, 2, 3), 4).release == (2, 3)


def test_surplus_is_kept_while_nobody_lacks_it() -> None:
    # b holds nothing, and what it lacks is free for it to take
    assert decide("a", [Row("b")], (0, 1, 2), 6) == Decision()
    assert decide("a", [], (0, 1, 2), 3) == Decision()


def test_two_that_lack_partitions_do_not_seek_the_same() -> None:
    rows = [Row("a"), Row("b")]
    assert decide("a", rows, (), 4).seek == (0, 1)
    assert decide("b", rows, (), 4).seek == (2, 3)


def test_a_stopping_worker_releases_all_and_counts_for_nothing() -> None:
    assert decide("a", [Row("b")], (1, 0), 2, stopping=True) == Decision(release=(0, 1))
    stopping = Row("a", (0,), stopping=True)
    # what it still says it holds is not sought; all the rest is
    assert decide("b", [stopping], (), 2).seek == (1,)


def test_a_probe_is_tried_whatever_rows_and_shares_say() -> None:
    rows = [Row("a", (0, 1)), Row("b", (2, 3))]
    assert decide("a", rows, (0, 1), 4, probe=(2,)) == Decision(seek=(2,))
    assert decide("a", rows, (0, 1), 4, probe=(1,)) == Decision()
    assert decide("a", rows, (0, 1, 2), 4, probe=(3,)).seek == (3,)


@given(
    partitions=st.integers(1, 32),
    workers=st.integers(1, 7),
    leaving=st.integers(0, 6),
    seed=st.integers(0, 2**32),
)
def test_from_any_start_shares_become_fair_and_nothing_stays_unowned(
    partitions: int, workers: int, leaving: int, seed: int
) -> None:
    random = Random(seed)
    names = [f"w{number}" for number in range(workers + leaving)]
    stopping = set(names[workers:])
    held: dict[str, set[int]] = {name: set() for name in names}
    for partition in range(partitions):
        owner = random.choice([*names, None])
        if owner is not None:
            held[owner].add(partition)

    for _ in range(6):
        for name in random.sample(names, len(names)):
            rows = [Row(other, tuple(sorted(held[other])), other in stopping) for other in names]
            owned = set[int]().union(*held.values())
            decision = decide(name, rows, held[name], partitions, stopping=name in stopping)
            held[name] -= set(decision.release)
            held[name] |= set(decision.seek) - owned

    target = shares(names[:workers], partitions)
    assert {name: len(held[name]) for name in names} == {name: target.get(name, 0) for name in names}
    assert set[int]().union(*held.values()) == set(range(partitions))


@given(partitions=st.integers(1, 16), seed=st.integers(0, 2**32))
def test_whatever_the_rows_claim_probes_find_every_unowned_partition(partitions: int, seed: int) -> None:
    random = Random(seed)
    lie = Row("ghost", tuple(random.sample(range(partitions), random.randint(0, partitions))))
    held: set[int] = set()
    for turn in range(2 * partitions):
        held |= set(decide("a", [lie], held, partitions, probe=(turn % partitions,)).seek)
    assert held == set(range(partitions))

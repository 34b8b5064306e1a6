"""The short memory of a lock row: what changed since a reader last looked, and when it cannot tell."""

from __future__ import annotations

from durabletask_azure.adapters.tables.rings import Ring, short_name

A, B, C = (short_name(text) for text in "abc")


def test_a_ring_tells_what_was_added_since_a_count() -> None:
    ring = Ring().with_names([A, B], 4)
    later = ring.with_names([C, A], 4)

    assert ring.since(0) == {A, B}
    assert later.since(ring.count) == {C, A}
    assert later.since(later.count) == set()
    assert later.count == 4


def test_a_ring_knows_that_names_are_gone() -> None:
    ring = Ring().with_names([A, B, C], 2)

    assert ring.since(0) is None
    assert ring.since(1) == {B, C}


def test_a_ring_begun_anew_is_told_from_the_one_before() -> None:
    assert Ring().with_names([A], 4).since(7) is None


def test_a_ring_comes_back_as_it_was_stored() -> None:
    ring = Ring().with_names([A, B], 4)

    assert Ring.decode(ring.encode()) == ring
    assert Ring.decode(None) == Ring.decode(b"") == Ring()
    assert ring.with_names([], 4) is ring


def test_ids_with_lone_surrogates_have_a_short_name_too() -> None:
    assert len(short_name("\ud800")) == 4

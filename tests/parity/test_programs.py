"""The same programs on Microsoft's in-memory backend and on ours: what is seen of them is the same."""

from __future__ import annotations

from tests.parity.book import PROGRAMS
from tests.parity.differences import adapted
from tests.parity.sides import Side


def test_a_program_does_the_same_on_both(program: str, theirs: Side, ours: Side) -> None:
    assert adapted(ours.runs[program]()) == adapted(theirs.runs[program]())


def test_there_are_many_programs() -> None:
    assert len(PROGRAMS) >= 60

"""The same programs on Microsoft's in-memory backend and on ours: what is seen of them is the same."""

from __future__ import annotations

import pytest

from tests.parity.sides import Side


def test_a_program_does_the_same_on_both(program: str, theirs: Side, ours: Side) -> None:
    assert ours.runs[program]() == theirs.runs[program]()

"""The keys of rows: different for different ids, in the order of the ids, and harmless in an address and a filter."""

from __future__ import annotations

import random
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from durabletask_azure.adapters.tables import keys

KEY_CHARS_MAX = 512
SAFE = re.compile(r"[0-9A-Za-z_`.(:\[{|~!-]*", re.ASCII)
ids = st.text(max_size=60)
"""Any code point, lone surrogates too."""
close_ids = st.text(
    "aAbB!%'/\\#?.:-_`{|~( \x00\x7f\x80\xe9\ud7ff\ud800\ue000\uffff\U0001f389\U0010ffff", max_size=8
)


@given(ids | close_ids)
@settings(max_examples=1_000, deadline=None)
def test_an_escaped_id_is_turned_back_and_harmless(text: str) -> None:
    assert keys.unescaped(keys.escaped(text)) == text
    assert SAFE.fullmatch(keys.escaped(text))
    assert "!" not in keys.escaped(text)


@given(close_ids, close_ids)
@settings(max_examples=3_000, deadline=None)
@example("a", "a.")
@example("a/", "a0")
@example("\uffff", "\U00010000")
def test_keys_sort_as_ids_do(one: str, other: str) -> None:
    assert (keys.instance_key(one) < keys.instance_key(other)) == (one < other)


@given(close_ids, close_ids)
@settings(max_examples=1_000, deadline=None)
def test_a_range_of_keys_is_a_prefix_of_ids(prefix: str, text: str) -> None:
    first, beyond = keys.prefix_range(prefix)

    assert (first <= keys.instance_key(text) < beyond) == text.startswith(prefix)
    assert first <= keys.instance_key(prefix + text) < beyond


@given(st.text(min_size=0, max_size=2_000), st.text(min_size=0, max_size=600), st.integers(0, 10**9))
@settings(max_examples=300, deadline=None)
@example("🎉" * 500, "🎉" * 500, 0)
@example("a" * 500, "e" * 500, 0)
def test_no_key_is_longer_than_the_service_takes(text: str, execution: str, index: int) -> None:
    made = [
        keys.instance_key(text),
        keys.tombstone_key(text),
        keys.segment_key(text, execution, index),
        keys.outbox_key(2**63, index),
    ]

    assert all(len(key) <= KEY_CHARS_MAX and SAFE.fullmatch(key) for key in made)


@given(st.text(min_size=100, max_size=400), st.text(max_size=3))
@settings(max_examples=300, deadline=None)
def test_long_ids_keep_their_place_among_those_that_begin_otherwise(text: str, other: str) -> None:
    if not text.startswith(other):
        assert (keys.instance_key(text * 5) < keys.instance_key(other)) == (text < other)
    first, beyond = keys.prefix_range(text)
    assert first <= keys.instance_key(text + other) < beyond


def test_a_hundred_thousand_ids_have_as_many_keys() -> None:
    rng = random.Random(20_261_124)
    alphabet = "abAB01.-_/\\#?%'! :|~({[`é🎉\u0130i\ufb01ß\u00a0\x00\t"
    made = {"".join(rng.choices(alphabet, k=rng.randint(3, 12))) for _ in range(105_000)}
    begin = "ж" * 101
    made |= {begin + "".join(rng.choices(alphabet, k=4)) for _ in range(3_000)}
    assert len(made) > 100_000

    for keys_of in (
        {keys.instance_key(text) for text in made},
        {keys.tombstone_key(text) for text in made},
        {keys.segment_key(text, "e", 0) for text in made},
    ):
        assert len(keys_of) == len(made)


def test_instances_and_executions_do_not_run_together_in_a_segment_key() -> None:
    assert keys.segment_key("a", "b!c", 0) != keys.segment_key("a!b", "c", 0)
    assert keys.segment_key("a", "b", 1) < keys.segment_key("a", "b", 10) < keys.segment_key("a", "b", 10**6)


def test_only_a_whole_key_is_turned_back() -> None:
    assert keys.is_whole(keys.instance_key("a!b"))
    assert keys.instance_id_of(keys.instance_key("a!b")) == "a!b"
    assert keys.is_whole(keys.instance_key("a" * 500))
    assert not keys.is_whole(keys.instance_key("🎉" * 500))

"""100,000 ids: none is taken for another, whatever it looks like, in keys of rows and in names of values."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from durabletask_azure.adapters.tables.keys import (
    escaped,
    instance_id_of,
    instance_key,
    is_whole,
    segment_key,
    tombstone_key,
    unescaped,
)
from durabletask_azure.core.payloads import is_name, payload_prefix

ODD = (
    "|'/%\\#?!:;.,~`^&*()[]{}<>@$+=-_ \t\n\u0000\u001f\u007f\u0080\u2028\ufeff\U0001f388éÉß\u0130\u0131\u212a"
)
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def drawn(seed: int, count: int) -> Iterator[str]:
    """Yield different ids: odd ones, long ones, and for each some that differ from it as little as can be."""
    draw = random.Random(seed)
    seen: set[str] = set()
    while len(seen) < count:
        alphabet = draw.choice((ODD, LETTERS, LETTERS + ODD, "aA", "0123456789abcdef(:[{|~.ds"))
        length = draw.choice((1, 2, 3, 8, 36, 120, 499))
        id = "".join(draw.choices(alphabet, k=length))
        # As a key's escape of something would look, in another case, with an end cut off or more behind it.
        for near in (
            id,
            escaped(id),
            id.swapcase(),
            id.upper(),
            id[:-1],
            f"{id}!",
            f"{id}/x",
            f"{id} ",
            id.strip(),
        ):
            if near and len(near) <= 500 and near not in seen:
                seen.add(near)
                yield near


@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(300)
def test_many_ids_come_back_and_none_meets_another(count: int) -> None:
    ids = list(drawn(1, count))
    assert len(ids) >= count
    keys = [instance_key(id) for id in ids]
    assert len(set(keys)) == len(ids)
    for id, key in zip(ids, keys, strict=True):
        assert len(key) <= 512
        assert key.isascii()
        assert key.isprintable()
        assert not set("/\\#?%'") & set(key)
        assert unescaped(escaped(id)) == id
        if is_whole(key):
            assert instance_id_of(key) == id
    assert len({tombstone_key(id) for id in ids}) == len(ids)
    assert len({segment_key(id, "x", 0) for id in ids}) == len(ids)
    # Names of values are paths, also where files do not differ by case: their form has none.
    prefixes = [payload_prefix(0, id) for id in ids]
    assert len(set(prefixes)) == len(ids)
    assert all(prefix == prefix.lower() and is_name(f"{prefix}x/y") for prefix in prefixes)

"""Stored forms of values: small, told apart, and never larger in memory than they say."""

from __future__ import annotations

import os
import zlib

import pytest

from durabletask_azure.core.compression import STORED_BYTES_MORE_MAX, pack, unpack

TEXT = b'{"name":"value"}' * 1_000


@pytest.mark.parametrize(
    "data", [b"", b"5", TEXT, "ü".encode() * 500, os.urandom(5_000), b"\xff", b"\xffz", b"\xff-" + TEXT]
)
@pytest.mark.parametrize("compress_bytes_min", [1, 1_000, 10**9])
def test_a_value_comes_back(data: bytes, compress_bytes_min: int) -> None:
    stored = pack(data, compress_bytes_min)
    assert unpack(stored, len(data)) == data
    assert len(stored) <= len(data) + STORED_BYTES_MORE_MAX


def test_what_gets_smaller_is_compressed_from_a_size_on() -> None:
    assert len(pack(TEXT, len(TEXT))) < len(TEXT) / 10
    assert pack(TEXT, len(TEXT) + 1) == TEXT
    noise = b"~" + os.urandom(5_000)
    assert pack(noise, 1) == noise


def test_a_bomb_does_not_go_off() -> None:
    stored = b"\xffz" + zlib.compress(bytes(50_000_000))
    assert len(stored) < 60_000
    assert len(unpack(stored, 1_000)) == 1_001


@pytest.mark.parametrize("kind", ["end", "half", "more", "middle"])
def test_damage_is_noticed(kind: str) -> None:
    stored = pack(TEXT, 1)
    damaged = {
        "end": stored[:-1],
        "half": stored[:50],
        "more": stored + b"x",
        "middle": stored[:2] + stored[5:],
    }[kind]
    with pytest.raises(ValueError, match="the compressed value is damaged"):
        unpack(damaged, len(TEXT))

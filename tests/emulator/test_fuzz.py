"""The targets of the fuzzer (`fuzz/`): its seeds pass, what it found stays mended, and it runs where it can."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tracemalloc
from pathlib import Path
from uuid import UUID

import pytest

from durabletask_azure.emulator.amqp.decode import decode
from durabletask_azure.emulator.amqp.encode import encode, encode_composite
from durabletask_azure.emulator.amqp.types import ITEMS_MAX, Array, DecodeError, Encoded, UInt, ULong, Value
from durabletask_azure.emulator.broker import browse, settling
from durabletask_azure.emulator.cbs import path_of
from tests.emulator.fuzz.corpus import SEEDS, mutate_stream
from tests.emulator.fuzz.targets import SIGNED_IN, TARGETS, OutOfBoundsError, bounded
from tests.emulator.wire import (
    RECEIVES,
    SENDS,
    TRANSFER,
    Bench,
    answers,
    attach,
    condition,
    credit,
    frame,
    put_token,
    read_frames,
    settled,
    transfer,
)
from tests.emulator.world import World, content

CLOSE = 0x18
ROOT = Path(__file__).resolve().parents[2]
SMOKE_RUNS = 3_000


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_passes_its_target(name: str) -> None:
    seeds = SEEDS[name]()
    assert len(seeds) > 40
    for data in seeds:
        TARGETS[name](data)


def test_a_target_that_takes_too_much_memory_fails() -> None:
    def greedy(data: bytes) -> None:
        bytearray(100_000_000 * len(data))

    with pytest.raises(OutOfBoundsError, match="bytes; at most"):
        bounded(greedy)(b"1234")


def test_a_mutation_leaves_the_other_frames_whole() -> None:
    frames = [attach("a", 2, SENDS, "here", "q"), transfer(2, 1), attach("b", 3, RECEIVES, "q", "here")]
    data = b"\x01" + b"".join(frames)
    for seed in range(100):
        changed = mutate_stream(data, 2_000, seed, lambda part, _: part + b"!")
        if changed != data + b"!":
            assert sum(whole in changed for whole in frames) >= 2


# ------------------------------------------------------------ what was found


def nested_arrays(items: int) -> bytes:
    """Return an array of 200 arrays, each of which says that it has so many nulls."""
    inner = b"\x00\x00\x00\x05" + items.to_bytes(4, "big") + b"\x40"
    body = (200).to_bytes(4, "big") + b"\xf0" + inner * 200
    return b"\xf0" + len(body).to_bytes(4, "big") + body


def test_an_array_cannot_grow_out_of_items_without_bytes() -> None:
    with pytest.raises(DecodeError, match="more items than bytes"):
        decode(nested_arrays(ITEMS_MAX))
    assert decode(nested_arrays(1))[0] == Array((Array((None,)),) * 200)


def test_a_map_takes_no_keys_whose_hashes_anybody_can_make_equal() -> None:
    with pytest.raises(DecodeError, match="a key of a map"):
        decode(encode({UUID(int=1): None}))
    keys: dict[Value, Value] = {"a": 1, 2: 2, b"c": 3, 4.5: 4, None: 5}
    assert decode(encode(keys))[0] == keys


def test_an_array_of_the_largest_numbers_can_be_sent_on() -> None:
    numbers = Array((1, 2**64 - 1))
    assert encode(numbers) == encode(Array((ULong(1), ULong(2**64 - 1))))
    assert decode(encode(numbers))[0] == numbers


def test_a_char_that_no_text_can_hold_closes_the_connection_of_who_sends_it() -> None:
    odd = Encoded(b"\x73\x00\x00\xd8\x00")
    modified = Encoded(encode_composite(0x27, [True, None, Encoded(b"\xc1\x09\x02" + encode("a") + odd)]))
    frames = [attach("out", 2, SENDS, "here", "q"), attach("in", 3, RECEIVES, "q", "here") + credit(3, 1)]
    frames.append(transfer(2, 1))
    peer = Bench().sign_in()
    delivered = [answers(peer, data) for data in frames][-1]
    delivery_id = delivered[0][1][1]
    assert isinstance(delivery_id, int)
    [(code, fields, _)] = answers(peer, settled(delivery_id, modified))
    assert (code, condition(fields[0])) == (CLOSE, "amqp:decode-error")
    TARGETS["broker"](bytes((SIGNED_IN,)) + b"".join(frames) + settled(delivery_id, modified))


@pytest.mark.parametrize("host", ["[host", "ho]st", "\u2100"])
def test_an_address_with_a_strange_host_is_an_address(host: str) -> None:
    address = f"sb://{host}/Queue/?x#y"
    assert path_of(address) == "queue"
    peer = Bench().sign_in()
    frames = answers(peer, attach("out", 2, SENDS, "here", f"sb://{host}/q"))
    assert [code for code, _, _ in frames] == [0x12, 0x13]
    token = put_token(0, 2).replace(b"\xa1\x0asb://host/", b"\xa1\x0asb://[ost/")
    peer.receive(token)
    assert read_frames(peer.connection.output())
    assert not peer.closed


def test_a_message_of_endless_empty_transfers_takes_no_memory() -> None:
    peer = Bench().sign_in()
    answers(peer, attach("out", 2, SENDS, "here", "q"))
    part = frame(TRANSFER, UInt(2), UInt(1), b"tag", UInt(0), False, True)
    peer.receive(part * 100)
    peer.connection.output()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(200):
            peer.receive(part * 100)
            peer.connection.output()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not peer.closed
    assert after - before < 50_000


def test_a_number_named_twice_is_received_once() -> None:
    world = World()
    queue = world.queue()
    [number] = queue.send([content("deferred")])
    settling.defer(queue, world.receive(queue).token(), {})
    assert len(browse.receive_by_number(queue, [number, number], None, peek_lock=True)) == 1


# ------------------------------------------------------------ the fuzzer itself


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris has wheels for CPython 3.11 to 3.14 on x86-64 Linux only",
)
def test_a_few_thousand_inputs_led_by_coverage_find_nothing(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.emulator.fuzz",
        "--runs",
        str(SMOKE_RUNS),
        "--folder",
        str(tmp_path),
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert ran.returncode == 0, ran.stderr[-4_000:]
    assert ran.stderr.count(f"#{SMOKE_RUNS}\tDONE") == len(TARGETS)

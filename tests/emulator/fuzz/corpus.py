"""What a fuzzer begins with, made from real frames, and how it changes a stream so that frames stay frames."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from durabletask_azure.emulator.amqp.encode import encode
from durabletask_azure.emulator.amqp.frames import HEADER_BYTES
from tests.emulator.fuzz.targets import IN_PIECES, SIGNED_IN, TIME_PASSES
from tests.emulator.test_mangled_frames import GOOD, INFO, NUMBERS, OPERATIONS, REQUEST, request
from tests.emulator.wire import before_signing_in, put_token
from tests.emulator.world import message

SIGNING_IN = before_signing_in() + put_token()
Mutate = Callable[[bytes, int], bytes]


def codec_seeds() -> list[bytes]:
    """Return bodies of frames, values, messages, requests, and whole frames."""
    bodies = [data[HEADER_BYTES:] for data in GOOD]
    values = [encode(value) for value in (INFO, NUMBERS, REQUEST)]
    messages = [
        message("timed", ttl_s=5, scheduled_at=1_900_000_000.0, properties={"a": 1}),
        message("in session", session_id="one", message_id="1"),
    ]
    return [*bodies, *values, *messages, *[request(name) for name in OPERATIONS], b"".join(GOOD[:4])]


def broker_seeds() -> list[bytes]:
    """Return what clients send: each first byte says how (see `targets.py`)."""
    links = b"".join(GOOD[:8])
    whole = b"".join(GOOD)
    alone = [bytes((SIGNED_IN,)) + data for data in GOOD]
    linked = [bytes((SIGNED_IN | mode,)) + links + data for data in GOOD[8:] for mode in (0, TIME_PASSES)]
    fresh = [
        bytes((mode,)) + (b"" if mode & SIGNED_IN else SIGNING_IN) + whole
        for mode in range((SIGNED_IN | TIME_PASSES | IN_PIECES) + 1)
    ]
    return [*alone, *linked, *fresh]


SEEDS: dict[str, Callable[[], list[bytes]]] = {"codec": codec_seeds, "broker": broker_seeds}


def write_seeds(name: str, folder: Path) -> int:
    """Write the seeds of a target as files, one each; return how many."""
    seeds = SEEDS[name]()
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds):
        (folder / f"seed-{number:03}").write_bytes(data)
    return len(seeds)


def mutate_stream(data: bytes, size_max: int, seed: int, mutate: Mutate) -> bytes:
    """Change an input of the broker: mostly one frame of it, whose size is then made to fit again.

    Args:
        data: the input.
        size_max: the most bytes of the answer.
        seed: of what is left to chance.
        mutate: changes bytes, up to a size; the fuzzer's own.
    """
    chance = random.Random(seed)
    frames = split(data[1:])
    if not frames or chance.random() < 0.15:
        return mutate(data, size_max)
    at = chance.randrange(len(frames))
    match chance.randrange(10):
        case 0:
            frames.insert(at, chance.choice(GOOD))
        case 1:
            frames.insert(at, frames[chance.randrange(len(frames))])
        case 2:
            del frames[at]
        case 3:
            frames.append(frames.pop(at))
        case _:
            head, body = frames[at][:HEADER_BYTES], frames[at][HEADER_BYTES:]
            changed = mutate(body, max(len(body) + 64, 64)) if body else chance.choice(GOOD)[HEADER_BYTES:]
            frames[at] = (len(changed) + HEADER_BYTES).to_bytes(4, "big") + head[4:] + changed
    return (data[:1] + b"".join(frames))[:size_max]


def split(stream: bytes) -> list[bytes]:
    """Cut a stream into its frames, as far as it has any; the rest is the last piece."""
    frames: list[bytes] = []
    at = 0
    while at < len(stream):
        size = int.from_bytes(stream[at : at + 4], "big")
        if stream.startswith(b"AMQP", at):
            size = HEADER_BYTES
        end = at + max(size, HEADER_BYTES)
        frames.append(stream[at:end])
        at = end
    return frames

"""Mangled messages into the decoders and through the turns of one partition of the core, without I/O."""

from __future__ import annotations

from collections import Counter

import msgspec

from durabletask_azure.core.history import decode_events, encode_event
from durabletask_azure.core.messages import Message, ResetInstance, decode_messages, decode_task
from tests.mangling import corpus
from tests.mangling.mutator import Mutator

AGE_MAX = 20
"""Messages after which a bench is replaced by a new one."""


def mangle_turns(seed: int, count: int) -> Counter[str]:
    """Hand mangled messages to a victim beside a bystander; return how many were refused and taken.

    The bench compares warm and cold, and checks what must hold of every commit.
    """
    mutator, seen = Mutator(seed, corpus.packs()), Counter[str]()
    bench, age = corpus.begun(), 0
    before = bench.rows["bystander"]
    for _ in range(count):
        data = mutator.one()
        try:
            pack = decode_messages(data)
        except msgspec.DecodeError:
            seen["refused"] += 1
            continue
        seen["taken"] += 1
        if age == AGE_MAX:
            bench, age = corpus.begun(), 0
        age += 1
        by_instance: dict[str, list[Message]] = {}
        for message in pack:
            by_instance.setdefault(message.instance_id, []).append(message)
        for instance_id, messages in by_instance.items():
            if any(isinstance(message.body, ResetInstance) for message in messages):
                bench.warm.pop(instance_id, None)  # as the engine does
            bench.turn(*messages, id=instance_id)
        assert bench.rows["bystander"] == before, data
    return seen


def mangle_decoders(seed: int, count: int) -> Counter[str]:
    """Hand mangled tasks and events to their decoders; return how many were refused and taken."""
    tasks = Mutator(seed, corpus.tasks())
    bodies = corpus.bodies()
    events = Mutator(seed, [encode_event(body) for body in bodies if hasattr(body, "timestamp")])  # pyright: ignore[reportArgumentType]
    seen: Counter[str] = Counter()
    for _ in range(count):
        for kind, decode, data in (
            ("task", decode_task, tasks.one()),
            ("event", decode_events, events.one()),
        ):
            try:
                decode(data)
                seen[f"{kind} taken"] += 1
            except msgspec.DecodeError:
                seen[f"{kind} refused"] += 1
    return seen

"""What each orchestration has to come to: computed from its order alone, by nobody who asked a hub."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.torture.programs import CHILD, KINDS, MODULUS, NEW, Order, stepped

KINDS_WITHOUT_PAUSES: Final = ("chain", "fan", "retries")
"""An instance of these waits for nothing but its own steps."""
COMPLETED: Final = "COMPLETED"
TERMINATED: Final = "TERMINATED"
_PAD_BYTES: Final = 40_000


@dataclass(frozen=True)
class Start:
    """One orchestration to start."""

    instance: str
    kind: str
    order: Order
    version: str


@dataclass(frozen=True)
class Expected:
    """What has to come of an orchestration.

    Attributes:
        status: how it ends.
        value: what it returns.
        calls: how many calls of each step there have to be, by instance and label.
        values: what each step has to be given.
        pause_s: how long must lie between a step and the next.
    """

    status: str
    value: int | None
    calls: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    values: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    pause_s: float = 0.0


def choose(rng: random.Random, instance: str, version: str) -> list[Start]:
    """Choose what to start next: mostly one orchestration, sometimes two that belong together."""
    kind = rng.choice(KINDS)
    value = rng.randrange(MODULUS)
    if kind == "answerer":
        return [
            Start(f"{instance}a", "asker", Order(value, partner=instance), version),
            Start(instance, "answerer", Order(value), version),
        ]
    counts = {
        "chain": (3, 8),
        "fan": (3, 12),
        "family": (2, 4),
        "timers": (2, 4),
        "events": (2, 5),
        "eternal": (2, 5),
        "retries": (1, 3),
        "halted": (1, 1),
    }
    order = Order(
        value,
        count=rng.randint(*counts[kind]),
        pause_ms=rng.randint(50, 1500) if kind == "timers" else 0,
        pad_bytes=_PAD_BYTES if kind == "chain" and rng.random() < 0.1 else 0,
    )
    return [Start(instance, kind, order, version)]


def ticks(start: Start) -> list[int]:
    """Return the events a client has to raise for an orchestration: each has a number of its own."""
    if start.kind not in ("events", "eternal"):
        return []
    return [start.order.value % 1000 + number for number in range(start.order.count)]


def to_hear(start: Start) -> list[int]:
    """Return the events an orchestration has to say it heard, in any order."""
    return [stepped(start.order.value, "0")] if start.kind == "answerer" else ticks(start)


def expected(start: Start, heard: Sequence[int]) -> Expected:
    """Return what has to come of an orchestration that was started so and heard events in that order."""
    model = _Model(start)
    match start.kind:
        case "chain":
            labels = [str(number) for number in range(start.order.count)]
            model.walk(start.instance, start.order.value, labels + ["new"] * (start.version == NEW))
        case "timers":
            model.walk(start.instance, start.order.value, [str(n) for n in range(start.order.count)])
        case "held":
            model.walk(start.instance, start.order.value, ["0", "1", "2"])
        case "blocking":
            model.walk(start.instance, start.order.value, ["0"])
        case "fan":
            total = 0
            for number in range(start.order.count):
                total += model.step(start.instance, str(number), start.order.value + number)
            model.value = total % MODULUS
        case "family":
            total = 0
            for number in range(start.order.count):
                labels = ["0", "1"] + ["new"] * (start.version == NEW)
                child = f"{start.instance}{CHILD}{number}"
                total += model.walk(child, start.order.value + number, labels)
            model.value = total % MODULUS
        case "events":
            model.walk(start.instance, start.order.value + sum(heard), ["0"])
        case "eternal":
            for number, told in enumerate(heard):
                assert model.value is not None
                model.value = model.step(start.instance, str(number), model.value + told)
        case "retries":
            model.walk(start.instance, start.order.value, ["0"])
            model.calls[start.instance, "0"] = start.order.count + 1
        case "asker":
            model.walk(start.instance, start.order.value, ["0"])
        case "answerer":
            model.walk(start.instance, stepped(start.order.value, "0"), ["0"])
        case "halted":
            return Expected(TERMINATED, None)
        case kind:
            raise AssertionError(f"there is no kind {kind}")
    pause_s = start.order.pause_ms / 1000 if start.kind == "timers" else 0.0
    return Expected(COMPLETED, model.value, model.calls, model.values, pause_s)


def steps_of(start: Start) -> set[tuple[str, str]]:
    """Return the steps, by instance and label, that may be taken for an orchestration at all."""
    if start.kind == "halted":
        return {(start.instance, "0")}
    return set(expected(start, to_hear(start)).calls)


class _Model:
    """A run without a hub."""

    def __init__(self, start: Start) -> None:
        self.value: int | None = start.order.value
        self.calls: Counter[tuple[str, str]] = Counter()
        self.values: dict[tuple[str, str], int] = {}

    def step(self, instance: str, label: str, value: int) -> int:
        self.calls[instance, label] += 1
        self.values[instance, label] = value
        return stepped(value, label)

    def walk(self, instance: str, value: int, labels: list[str]) -> int:
        for label in labels:
            value = self.step(instance, label, value)
        self.value = value
        return value

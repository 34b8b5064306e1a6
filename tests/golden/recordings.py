"""A recorded execution: its events as stored, the spilled values they refer to, and what was decided in each turn."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec

from durabletask_azure.core.actions import Decision
from durabletask_azure.core.history import (
    ContinuedEvent,
    EventSentEvent,
    ExecutionCompletedEvent,
    ExecutionStartedEvent,
    HistoryEvent,
    OrchestratorStartedEvent,
    SubOrchestrationInstanceCreatedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
    decode_events,
)
from durabletask_azure.core.registry import OrchestratorDefinition, Registry
from durabletask_azure.core.replay import Execution, RuntimeOptions
from tests.golden import orchestrators_1, orchestrators_2

HERE = Path(__file__).parent
FOLDER = HERE / "histories"
HASHES = HERE / "hashes.txt"

_DECIDED = (
    TaskScheduledEvent,
    TimerCreatedEvent,
    SubOrchestrationInstanceCreatedEvent,
    EventSentEvent,
    ExecutionCompletedEvent,
    ContinuedEvent,
)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The events before a turn, and those that came in with it."""

    past: Sequence[HistoryEvent]
    new: Sequence[HistoryEvent]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One recorded execution; ``number`` counts the executions of its instance."""

    case: str
    number: int
    lines: bytes
    payloads: Mapping[str, str]
    decisions: Sequence[Any]

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.case}.{self.number}"

    @classmethod
    def make(cls, case: str, number: int, lines: bytes, payloads: Mapping[str, str]) -> Recording:
        """Return the recording of an execution, with what this version decides."""
        # Stack traces name files: a recording says nothing of the machine it was made on.
        for folder in (str(HERE.parents[1]), sys.prefix, sys.base_prefix):
            lines = lines.replace(folder.encode(), b"...")
            payloads = {name: text.replace(folder, "...") for name, text in payloads.items()}
        recording = cls(case=case, number=number, lines=lines, payloads=payloads, decisions=())
        return dataclasses.replace(recording, decisions=[described(each) for each in recording.decide_live()])

    @classmethod
    def all(cls) -> Iterator[Recording]:
        """Yield every recording, by name."""
        for file in sorted(FOLDER.glob("*.jsonl")):
            case, _, number = file.stem.rpartition(".")
            values = file.with_suffix(".payloads.json")
            yield cls(
                case=case,
                number=int(number),
                lines=file.read_bytes(),
                payloads=json.loads(values.read_bytes()) if values.exists() else {},
                decisions=json.loads(file.with_suffix(".decisions.json").read_bytes()),
            )

    def write(self) -> None:
        """Write the files of a new recording; fails if there are any."""
        parts = {".jsonl": self.lines, ".decisions.json": _json(self.decisions)}
        if self.payloads:
            parts[".payloads.json"] = _json(self.payloads)
        for suffix, data in parts.items():
            with (FOLDER / f"{self.name}{suffix}").open("xb") as file:
                file.write(data)

    def events(self) -> list[HistoryEvent]:
        """Return the events as this version reads them."""
        return decode_events(self.lines)

    def definition(self) -> OrchestratorDefinition:
        """Return the orchestrator the execution ran."""
        name = next(event.name for event in self.events() if isinstance(event, ExecutionStartedEvent))
        registry = Registry()
        for orchestrator in orchestrators():
            registry.add_orchestrator(orchestrator)
        return next(known for known in registry.orchestrators if known.name == name)

    def turns(self) -> list[Turn]:
        """Return the turns of the execution: each begins with an ``OrchestratorStarted``."""
        events = self.events()
        starts = [index for index, event in enumerate(events) if isinstance(event, OrchestratorStartedEvent)]
        # A new generation's first events were written with the end of the one before, and run with its first turn.
        is_later = any(isinstance(event, ExecutionStartedEvent) and event.generation > 0 for event in events)
        if is_later and len(starts) > 1 and not any(map(_is_decided, events[: starts[1]])):
            del starts[1]
        ends = [*starts[1:], len(events)]
        return [
            Turn(
                past=events[:start],
                new=[event for event in events[start:end] if not _is_decided(event)],
            )
            for start, end in zip(starts, ends, strict=True)
        ]

    def decide_live(self) -> list[Decision]:
        """Return the decisions of one execution that lives through all turns."""
        live = Execution(self.definition(), RuntimeOptions())
        decisions = [live.run(turn.new, self.payloads) for turn in self.turns()]
        live.close()
        return decisions


def orchestrators() -> list[Any]:
    """Return every orchestrator that recordings are of."""
    return [*orchestrators_1.ORCHESTRATORS, *orchestrators_2.ORCHESTRATORS]


def described(value: Any) -> Any:
    """Return a decision as JSON values, each object with its kind; stack traces, which name lines, left out."""
    if isinstance(value, msgspec.Struct):
        fields = {
            name: described(getattr(value, name)) for name in value.__struct_fields__ if name != "stack_trace"
        }
        return {"is": type(value).__name__, **fields}
    if isinstance(value, (list, tuple)):
        return [described(each) for each in cast(Sequence[Any], value)]
    return msgspec.to_builtins(value)


def fits(recorded: Any, now: Any) -> bool:
    """Return whether ``now`` has everything that was recorded; a later version may add fields."""
    if isinstance(recorded, dict):
        fields = cast(dict[str, Any], recorded)
        found = cast(dict[str, Any], now)
        return isinstance(now, dict) and all(
            name in found and fits(value, found[name]) for name, value in fields.items()
        )
    if isinstance(recorded, list):
        items, others = cast(list[Any], recorded), cast(list[Any], now)
        return isinstance(now, list) and len(items) == len(others) and all(map(fits, items, others))
    return recorded == now


def hashed() -> dict[str, str]:
    """Return the hashes that were written down, by file."""
    lines = HASHES.read_text(encoding="ascii").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def hashes_now() -> dict[str, str]:
    """Return the hashes of everything that must never change, by file."""
    files = [*sorted(HERE.glob("orchestrators_*.py")), *sorted(FOLDER.iterdir())]
    return {
        file.relative_to(HERE).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }


def write_hashes() -> None:
    """Write down the hashes of files that have none yet."""
    known = hashed() if HASHES.exists() else {}
    with HASHES.open("a", encoding="ascii") as file:
        for name, digest in hashes_now().items():
            if name not in known:
                file.write(f"{digest}  {name}\n")


def _is_decided(event: HistoryEvent) -> bool:
    return isinstance(event, _DECIDED)


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"

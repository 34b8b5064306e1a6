"""The same programs on Microsoft's in-memory backend and on ours: what is seen of them is the same."""

from __future__ import annotations

import re
from pathlib import Path

from tests.parity.book import PROGRAMS
from tests.parity.differences import adapted
from tests.parity.missing import MISSING
from tests.parity.sides import Api, Side
from tests.parity.surface import THEIRS

PATHS = {
    "task": (
        *("OrchestrationContext", "Task", "CompletableTask", "CancellableTask", "TimerTask", "CompositeTask"),
        *(
            "WhenAllTask",
            "WhenAnyTask",
            "ActivityContext",
            "FailureDetails",
            "RetryPolicy",
            "TaskFailedError",
        ),
    ),
    "client": (
        "TaskHubGrpcClient",
        "AsyncTaskHubGrpcClient",
        "OrchestrationState",
        "OrchestrationFailedError",
    ),
    "worker": ("TaskHubGrpcWorker",),
    "serialization": ("DataConverter",),
}
# Called by the runtime on tasks, not by programs.
RUNTIME = {"complete", "fail", "set_cancel_handler", "on_child_completed"}


def test_a_program_does_the_same_on_both(program: str, theirs: Side, ours: Side) -> None:
    assert adapted(ours.runs[program]()) == adapted(theirs.runs[program]())


def test_there_are_many_programs() -> None:
    assert len(PROGRAMS) > 60


def test_the_programs_use_every_public_method() -> None:
    here = Path(__file__).resolve().parent
    sources = [here / "sides.py", *(here / "programs").glob("*.py")]
    used = set(re.findall(r"\.(\w+)\b", "".join(path.read_text(encoding="utf-8") for path in sources)))
    missing = {path for paths in MISSING.values() for path in paths}
    api = Api.of(THEIRS)
    unused: list[str] = []
    for module, kinds in PATHS.items():
        for kind in kinds:
            names = [
                name
                for name in list_members(getattr(getattr(api, module), kind))
                if name not in RUNTIME | used
            ]
            unused += [path for name in names if (path := f"{module}.{kind}.{name}") not in missing]
    assert unused == []


def list_members(kind: type) -> list[str]:
    """Return the public names that a class defines itself."""
    return [name for name in vars(kind) if not name.startswith("_")]

"""The deliberate differences, as ``docs/durabletask.md`` has them, and what they change in what is seen of a program.

``ADAPTATIONS`` holds, under the name of a row of that table, what makes of a text that Microsoft's package shows the
one that this package shows. Programs are compared after that; what is not in it has to be the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

PAGE = Path(__file__).resolve().parents[2] / "docs" / "durabletask.md"
HEADING = "## What differs"

TASK_OF_THEIRS = re.compile(r"^(\S+: Activity task|Sub-orchestration task) #\d+ failed: ")
TASK_OF_OURS = re.compile(r"^(activity|sub-orchestration) '[^']+' \(task \d+\) failed: ")

ADAPTATIONS: dict[str, Callable[[str], str]] = {
    "names of error types": lambda text: text.removeprefix("builtins."),
    "where errors live": lambda text: text.replace("durabletask.task.", "durabletask_azure.errors."),
    "messages of failed tasks": lambda text: TASK_OF_OURS.sub(
        "A task failed: ", TASK_OF_THEIRS.sub("A task failed: ", text)
    ),
}


BACKEND = "its in-memory backend"
"""The row of what that backend leaves out of histories: whether an end was recursive, the type of a child's failure."""


def adapted(value: Any) -> Any:
    """Return something seen of a program with all adaptations made."""
    if isinstance(value, str):
        for adapt in ADAPTATIONS.values():
            value = adapt(value)
        return value
    if isinstance(value, dict):
        return {key: adapted(item) for key, item in cast(dict[Any, Any], value).items()}
    if isinstance(value, (list, tuple)):
        items = cast(list[Any], value)
        if items and items[0] == "ExecutionTerminated":
            del items[1]["recurse"]
        elif items and items[0] == "SubOrchestrationInstanceFailed":
            items[1]["failure"][0] = ""
        return [adapted(item) for item in items]
    return value


def rows() -> dict[str, tuple[str, str]]:
    """Return the rows of the page's table: what is there and what is here, by the name in the first column."""
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index(HEADING) :].split("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        for line in section.splitlines()
        if line.startswith("| ") and not line.startswith("| |")
    ]
    assert all(len(row) == 3 for row in cells), cells
    return {row[0]: (row[1], row[2]) for row in cells}

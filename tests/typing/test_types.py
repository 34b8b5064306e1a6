"""What the type checker makes of calls: in ``right_*`` files nothing is wrong, in ``wrong/`` exactly what is marked.

``# expect-error: rule, rule`` at the end of a line names what pyright has to report there; no more, no less.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXPECTED = re.compile(r"# expect-error: (?P<rules>[A-Za-z]+(, [A-Za-z]+)*)$")

Finding = tuple[str, int, str]
"""A file, a line, and the rule that it breaks."""


def expected_in(files: list[Path]) -> list[Finding]:
    """Return what the comments of these files announce."""
    return sorted(
        (path.name, number, rule)
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (marked := EXPECTED.search(line))
        for rule in marked["rules"].split(", ")
    )


def reported(files: list[Path], config: Path) -> tuple[list[Finding], int]:
    """Return the errors pyright finds in these files by the project's own rules, and how many files it read."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pyright"]
    # The project leaves out what is wrong on purpose, and the command line cannot put it back.
    include = [os.path.relpath(path, config.parent) for path in files]
    rules |= {"include": include, "exclude": [], "extraPaths": [str(ROOT)]}
    config.write_text(json.dumps(rules), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pyright",
        "--outputjson",
        "--pythonpath",
        sys.executable,
        "--project",
        str(config),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=110)  # noqa: S603
    answer: dict[str, Any] = json.loads(done.stdout)
    found = sorted(
        (Path(item["file"]).name, item["range"]["start"]["line"] + 1, item.get("rule", item["message"]))
        for item in answer["generalDiagnostics"]
        if item["severity"] in ("error", "warning")
    )
    return found, answer["summary"]["filesAnalyzed"]


def test_the_type_checker_finds_exactly_the_marked_mistakes(tmp_path: Path) -> None:
    files = sorted([*HERE.glob("right_*.py"), *(HERE / "wrong").glob("*.py")])
    expected = expected_in(files)
    found, read = reported(files, tmp_path / "pyrightconfig.json")
    assert read == len(files)
    assert found == expected
    assert len(expected) > 40


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        ("f(3)  # expect-error: reportArgumentType", ["reportArgumentType"]),
        (
            "f(3)  # expect-error: reportArgumentType, reportCallIssue",
            ["reportArgumentType", "reportCallIssue"],
        ),
        ("f(3)  # an error", []),
    ],
)
def test_marks_are_read(line: str, rules: list[str], tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    file.write_text(f"\n{line}\n", encoding="utf-8")
    assert expected_in([file]) == [("file.py", 2, rule) for rule in rules]

"""The documents say which test shows what: every test they name exists, and every fault over the wire has one."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
TESTS: Final = ROOT / "tests"
OF_OTHERS: Final = frozenset({"emulator.md"})
"""Documents that name tests of the SDK's own."""
WRITTEN: Final = tuple(path for path in sorted((ROOT / "docs").rglob("*.md")) if path.name not in OF_OTHERS)
NAMED: Final = re.compile(r"`((?:[\w-]+/)*test_\w+(?:\.py)?(?:…)?)(?:\[[^`]*\])?`")
PLACED: Final = re.compile(
    r"`((?:tests|integration|behaviours|contract|unit|wire_faults|acceptance)/[\w/]+\.py)`"
)
FAULTS_ON_THE_WIRE: Final = frozenset({*range(2, 19), 21, *range(23, 29), 30, 31, *range(35, 39)})
"""What issue and catalogue ask for over the wire; the others are the torture's and the simulator's."""


@functools.cache
def functions() -> frozenset[str]:
    """Return the names of all test functions."""
    return frozenset(
        node.name
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def exists(name: str) -> bool:
    """Tell whether there is such a test, a name that begins so (`…`), or such a file, wherever it is."""
    folder, _, last = name.rpartition("/")
    if last.endswith(".py"):
        return any(path.as_posix().endswith(f"/{name}") for path in TESTS.rglob(last))
    if folder:
        return (TESTS / name).is_dir()
    if last.endswith("…"):
        return any(function.startswith(last[:-1]) for function in functions())
    return last in functions()


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_every_test_a_document_names_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = {found[1] for pattern in (NAMED, PLACED) for found in pattern.finditer(text)}
    assert [name for name in sorted(named) if not exists(name)] == []


def test_names_are_looked_for() -> None:
    text = "| `test_a_…` | `unit/test_b.py`, `test_c[x-…]` | `tests/wire/proxy.py` |"
    assert NAMED.findall(text) == ["test_a_…", "unit/test_b.py", "test_c"]
    assert PLACED.findall(text) == ["unit/test_b.py", "tests/wire/proxy.py"]
    assert exists("test_names_are_looked_for")
    assert exists("test_names_are_…")
    assert exists("unit/test_documents.py")
    assert not exists("test_names_are_not_looked_for")
    assert not exists("contract/test_documents.py")


def test_every_fault_over_the_wire_is_in_the_table_and_has_a_test_in_the_file_it_names() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    section = text.partition("## Faults over the wire")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (F[F\d, ]+) \| (.*) \|$", section, re.MULTILINE)
    told = {int(number): cells for faults, cells in rows for number in re.findall(r"F(\d+)", faults)}
    assert frozenset(told) == FAULTS_ON_THE_WIRE
    for number, cells in told.items():
        files = [TESTS / "wire_faults" / f"{name}.py" for name in re.findall(r"`(test_\w+)\.py`", cells)]
        texts = [path.read_text(encoding="utf-8") for path in files]
        assert any(re.search(rf"def test\w*_f{number}_", text) for text in texts), f"F{number}"

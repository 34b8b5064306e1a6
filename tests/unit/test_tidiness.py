"""The code tests its own tidiness: sizes, names, and things that have no place in it."""

from __future__ import annotations

import ast
import functools
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDERS: Final = ("durabletask_azure", "tests", "samples", "benchmarks", "azurite", "containers")
MODULE_LINES_MAX: Final = 450
FUNCTION_LINES_MAX: Final = 70
BANNED_NAMES: Final = frozenset({"utils", "util", "helpers", "helper", "common", "manager", "misc"})

# Tests that may sleep: "tests/folder/test_file.py", each with its reason. Wait on signals or virtual time instead.
SLEEP_ALLOWED: Final = frozenset(
    {
        "tests/upgrade/write_hub.py",  # run by hand, with the code of an earlier version
    }
)

# Written in pieces, so that this file does not hold what it looks for.
MACHINE_PATH: Final = re.compile(
    r"(?<![\w.~*$}-])/(?:" + "|".join(("work", "root", "tmp", "opt", "home")) + r")/\w"
)
# What stands there are paths inside of images.
IMAGE_FILES: Final = ("Dockerfile:", "docker-compose.yml:")
REGISTRY: Final = re.compile(
    "|".join(("pypi" + r"\.org", "pythonhosted" + r"\.org", "registry" + r"\.npmjs"))
)
NO_COVER: Final = re.compile("pragma:" + r"\s*no\s*cover")

type_of_function = (ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def modules() -> dict[str, str]:
    """Return the text of every Python module we answer for, by its path under the root."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


@functools.cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of each of those modules."""
    return {path: ast.parse(text, path) for path, text in modules().items()}


def nodes() -> Iterator[tuple[str, ast.AST]]:
    """Yield every syntax node with the path it stands in."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            yield path, node


@functools.cache
def project_files() -> tuple[Path, ...]:
    """Return the files git tracks, and those it would with `git add`."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = [git, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603
    return tuple(path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file())


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """Return `path:line: text` of every line of the project's text files in which the pattern occurs."""
    found: list[str] = []
    for path in project_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        where = path.relative_to(ROOT).as_posix()
        found += [
            f"{where}:{n}: {line}" for n, line in enumerate(text.splitlines(), 1) if pattern.search(line)
        ]
    return found


def test_a_module_fits_in_the_head() -> None:
    lengths = {path: len(text.splitlines()) for path, text in modules().items()}
    assert {path: length for path, length in lengths.items() if length > MODULE_LINES_MAX} == {}


def test_a_function_fits_on_one_screen() -> None:
    long = [
        f"{path}:{node.lineno} {node.name}: {lines} lines"
        for path, node in nodes()
        if isinstance(node, type_of_function)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_no_module_or_folder_has_a_name_that_says_nothing() -> None:
    assert [path for path in modules() if BANNED_NAMES.intersection(Path(path).with_suffix("").parts)] == []


def test_nothing_is_left_unimplemented() -> None:
    unfinished = [
        f"{path}:{node.lineno}"
        for path, node in nodes()
        if isinstance(node, ast.Name) and node.id == "NotImplementedError"
    ]
    assert unfinished == []


def test_nothing_is_hidden_from_the_coverage_report() -> None:
    assert [path for path, text in modules().items() if NO_COVER.search(text)] == []


def test_tests_do_not_sleep_to_wait() -> None:
    sleeps = [
        f"{path}:{line}"
        for path, tree in trees().items()
        if path.startswith("tests/") and path not in SLEEP_ALLOWED
        for line in real_sleeps(tree)
    ]
    assert sleeps == []


def test_every_file_that_may_sleep_exists() -> None:
    assert SLEEP_ALLOWED.difference(modules()) == frozenset()


def test_no_path_of_one_machine_stands_in_a_file() -> None:
    assert [line for line in lines_with(MACHINE_PATH) if not line.startswith(IMAGE_FILES)] == []


def test_no_registry_address_stands_in_a_file() -> None:
    assert lines_with(REGISTRY) == []


def real_sleeps(tree: ast.AST) -> list[int]:
    """Return the lines that sleep by the clock of the machine.

    An orchestrator's `asyncio.sleep` is a durable timer: functions whose first parameter is `ctx` or `context` may have
    it. `asyncio.sleep(0)` only lets others run.
    """
    lines: list[int] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, type_of_function) and is_orchestrator(node):
            continue
        if is_sleep(node):
            lines.append(getattr(node, "lineno", 0))
        lines += real_sleeps(node)
    return lines


def is_orchestrator(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether a function takes an orchestration context first, or after `self`."""
    names = [
        argument.arg for argument in function.args.posonlyargs + function.args.args if argument.arg != "self"
    ]
    return names[:1] in (["ctx"], ["context"])


def is_sleep(node: ast.AST) -> bool:
    """Tell whether a node calls `time.sleep` or `asyncio.sleep`, or imports either under a bare name."""
    match node:
        case ast.ImportFrom(module="time" | "asyncio", names=names):
            return any(name.name == "sleep" for name in names)
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="asyncio"), attr="sleep"), args=[ast.Constant(value=0), *_]
        ):
            return False
        case ast.Call(func=ast.Attribute(value=ast.Name(id="time" | "asyncio"), attr="sleep")):
            return True
        case _:
            return False


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("import time\ntime.sleep(1)", [2]),
        ("async def test():\n    await asyncio.sleep(0.1)", [2]),
        ("from time import sleep", [1]),
        ("async def test():\n    await asyncio.sleep(0)", []),
        ("async def orchestrator(ctx, x):\n    await asyncio.sleep(60)", []),
        (
            "def test():\n    async def flow(context, _):\n        await asyncio.sleep(60)\n    time.sleep(1)",
            [4],
        ),
    ],
)
def test_sleeps_are_found(source: str, lines: list[int]) -> None:
    assert real_sleeps(ast.parse(source)) == lines


@pytest.mark.parametrize(
    ("line", "found"), [("x = '%swork/main'", True), ("GET https://host%swork/x", False)]
)
def test_machine_paths_are_found(line: str, found: bool) -> None:
    assert bool(MACHINE_PATH.search(line % "/")) is found

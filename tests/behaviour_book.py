"""A pytest plugin that tells which required behaviours the tests have shown, and on which hub.

**Names.** A test says in its name what it shows: `test_b90_terminate_running` shows B90, and
`test_b90_b91_terminate_early` shows both. Several tests may show one behaviour.

**Hubs.** The hub is read from the test's parameter ids: `[memory]`, `[disk-3]`, `[azure]`. A test without such an id
ran on no hub, and the table says `any`.

**What is required** stands in `tests/behaviours.toml` (ini option `behaviours_file`). A number under `[hub]` needs a
passing test on the embedded hub, `memory` or `disk`, and one on `azure`, over the wire; a number under `[any]`, such as
the replay of a saved history, needs a passing test and no hub. Tests of numbers that are not listed are welcome and
shown.

**What it does.** Every run that ran such tests ends with a table: number, test, a column per hub. With `--behaviours`
each required number that nothing has shown is reported as one more failed test, so the run fails and the closing line
says so. The option judges the whole tree: with paths, `-k`, `-m`, `--lf` or `--deselect` it is refused.

A test has passed only if setup, call and teardown all did. Under pytest-xdist the book is kept by the controller, which
hears of every test through its reports.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Final

import pytest

_PLUGIN_NAME: Final = "durabletask-azure-behaviours"
_TEST_NAME: Final = re.compile(r"test((?:_b\d+)+)(?:_|$)")
_NEEDED_ON: Final = (("memory", "disk"), ("azure",))
"""Where a number under `[hub]` is shown: on one hub of each of these."""

_HUBS: Final = ("memory", "disk", "azure", "any")
# Worst last: what a test shows is the worst that any of its phases or parameters came to.
_RESULTS: Final = ("passed", "skipped", "xfailed", "FAILED")
_COLUMN: Final = max(map(len, _RESULTS))


def numbers_in(test_name: str) -> tuple[int, ...]:
    """Return the behaviour numbers that a test's name claims, in the order it names them."""
    match = _TEST_NAME.match(test_name)
    return tuple(int(digits) for digits in re.findall(r"\d+", match[1])) if match else ()


def hub_in(parameter_ids: str) -> str:
    """Return the hub named among a test's parameter ids (`disk-3` means `disk`), or `any`."""
    named = set(parameter_ids.split("-")).intersection(_HUBS)
    return min(named, key=_HUBS.index) if named else "any"


class Book:
    """What is required, and what each test has come to on each hub."""

    def __init__(self, on_a_hub: dict[int, str], on_any: dict[int, str]) -> None:
        self._titles = on_a_hub | on_any
        self._on_a_hub = frozenset(on_a_hub)
        self._shown: dict[tuple[int, str], dict[str, str]] = {}

    @classmethod
    def read(cls, path: Path) -> Book:
        """Read the required numbers from a TOML file; a file that is missing or of another shape is a usage error."""
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
            on_a_hub, on_any = (
                {int(number.removeprefix("B")): str(title) for number, title in tables.get(name, {}).items()}
                for name in ("hub", "any")
            )
        except (OSError, ValueError, AttributeError) as error:
            raise pytest.UsageError(f"cannot read the behaviours in {path}: {error}") from error
        return cls(on_a_hub, on_any)

    def __bool__(self) -> bool:
        return bool(self._shown)

    def note(self, report: pytest.TestReport) -> None:
        """Take in one phase of one test, if its name claims a behaviour."""
        path, _, full_name = report.nodeid.partition("::")
        name, _, parameter_ids = full_name.rpartition("::")[2].partition("[")
        hub = hub_in(parameter_ids.rstrip("]"))
        for number in numbers_in(name):
            per_hub = self._shown.setdefault((number, f"{path}::{name}"), {})
            per_hub[hub] = max(per_hub.get(hub, "passed"), _result(report), key=_RESULTS.index)

    def missing(self) -> list[tuple[int, str]]:
        """Return each required number without a passing test where it is required, and what is missing."""
        lacks: list[tuple[int, str]] = []
        for number in sorted(self._titles):
            hubs = {
                hub
                for (shown, _), per_hub in self._shown.items()
                for hub, result in per_hub.items()
                if shown == number and result == "passed"
            }
            title = f"B{number} {self._titles[number]}"
            if number in self._on_a_hub:
                lacks += [
                    (number, f"{title}: no passing test on {' or '.join(needed)}")
                    for needed in _NEEDED_ON
                    if hubs.isdisjoint(needed)
                ]
            elif not hubs:
                lacks.append((number, f"{title}: no passing test"))
        return lacks

    def table(self) -> Iterable[str]:
        """Yield the lines of the table, by number and test; a column per hub, `any` for tests without one."""
        width = max(len(test) for _, test in self._shown)
        yield _line("", "", _HUBS, width)
        for (number, test), per_hub in sorted(self._shown.items()):
            yield _line(f"B{number}", test, [per_hub.get(hub, "-") for hub in _HUBS], width)


def _line(number: str, test: str, columns: Iterable[str], width: int) -> str:
    cells = " ".join(f"{cell:<{_COLUMN}}" for cell in columns)
    return f"{number:<5} {test:<{width}}  {cells}".rstrip()


def _result(report: pytest.TestReport) -> str:
    if report.failed:
        return "FAILED"
    if hasattr(report, "wasxfail"):
        return "xfailed"
    return "skipped" if report.skipped else "passed"


class Bookkeeper:
    """The hooks of the one process that hears of every test."""

    def __init__(self, book: Book, source: str, judges: bool) -> None:
        self._book = book
        self._source = source
        self._judges = judges

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write down what a test came to."""
        self._book.note(report)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Report what nobody has shown as failed tests, once all tests have run."""
        done = yield
        if self._judges and not session.config.option.collectonly:
            for number, text in self._book.missing():
                report = pytest.TestReport(
                    nodeid=f"{self._source}::B{number}",
                    location=(self._source, None, f"B{number}"),
                    keywords={},
                    outcome="failed",
                    longrepr=text,
                    when="call",
                )
                session.config.hook.pytest_runtest_logreport(report=report)
        return done

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        if self._book:
            terminalreporter.section("behaviours shown")
            for line in self._book.table():
                terminalreporter.line(line, red="FAILED" in line)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--behaviours` and the place of the list."""
    parser.getgroup("behaviours").addoption(
        "--behaviours",
        action="store_true",
        help="fail if a required behaviour is not shown (whole tree only)",
    )
    parser.addini(
        "behaviours_file", "the required behaviours, under the root", default="tests/behaviours.toml"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Open the book, but not in a worker of pytest-xdist."""
    if hasattr(config, "workerinput"):
        return
    judges = bool(config.getoption("--behaviours"))
    if judges:
        _refuse_part_of_the_tree(config)
    source = str(config.getini("behaviours_file"))
    book = Book.read(config.rootpath / source)
    config.pluginmanager.register(Bookkeeper(book, source, judges), _PLUGIN_NAME)


def _refuse_part_of_the_tree(config: pytest.Config) -> None:
    narrowed = [flag for flag in ("keyword", "markexpr", "deselect", "lf") if config.getoption(flag, None)]
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        narrowed.append("paths")
    if narrowed:
        raise pytest.UsageError(f"--behaviours judges the whole tree; leave out: {', '.join(narrowed)}")

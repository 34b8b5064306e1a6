"""``python -m benchmarks load``: brings the situations about and prints, judges and draws what was sampled."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.fresh import in_fresh_process
from benchmarks.load.situations import STEPS, WAITING_MAX
from benchmarks.plots import Curve, plot
from benchmarks.tables import figure, table
from benchmarks.targets import SMALL_SAYS, Verdict
from benchmarks.wire.servers import running_servers

__all__ = ["COMMAND", "HELP", "add_options", "run"]

COMMAND = "load"
HELP = "10,000 instances of 10 activities, 1,000 over the wire, clients that outrun workers, 100,000 finished ones"

_GROWTH_MAX = 1.10
_BACKLOG_MAX = 1.10


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Instances worked off on the embedded hub and over the wire; seconds of outrunning, and instances before, so that
    the worker keeps as many warm as it may; finished instances."""

    worked_off: int
    worked_off_wire: int
    outrun_s: float
    warm_ups: int
    finished: int


_FULL = _Sizes(10_000, 1_000, 60.0, 2_500, 100_000)
_SMALL = _Sizes(60, 30, 1.0, 50, 200)
_PARTS = ("worked-off", "outrun", "finished", "wire-worked-off", "wire-outrun")
_EMBEDDED = _PARTS[:3]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this measurement alone."""
    parser.add_argument(
        "--plots", type=Path, help="also draw the samples as SVG files into this folder (docs/figures)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=_PARTS, help="these situations (all; with --small: the embedded hub's)"
    )


def run(*, small: bool, plots: Path | None = None, only: Sequence[str] | None = None) -> None:
    """Bring the situations about, and print their tables and verdicts."""
    sizes = _SMALL if small else _FULL
    for part in only or (_EMBEDDED if small else _PARTS):
        if part == "finished":
            printed = _report_finished(sizes.finished, small=small)
        elif part.endswith("worked-off"):
            printed = _report_worked_off(part, sizes, small=small, plots=plots)
        else:
            printed = _report_outrun(part, sizes, small=small, plots=plots)
        for text in printed:
            print(text, flush=True)
        print()


def _measured(part: str, **arguments: Any) -> dict[str, Any]:
    if not part.startswith("wire-"):
        return in_fresh_process("load.situations", **arguments)
    with running_servers() as servers:
        return in_fresh_process("load.situations", servers=asdict(servers), **arguments)


def _report_worked_off(part: str, sizes: _Sizes, *, small: bool, plots: Path | None) -> Iterator[str]:
    is_wire = part.startswith("wire-")
    count = sizes.worked_off_wire if is_wire else sizes.worked_off
    title = f"{count:,} instances of {STEPS} activities, started at once, {_where(is_wire)}"
    _say(title)
    rows = _measured(part, situation="worked off", count=count)["samples"]
    if plots is not None:
        _draw(rows, title, plots / f"load-{part}.svg")
    yield title + "\n"
    yield _samples_table(rows, with_files=not is_wire)
    tenth = next(row for row in rows if row["ended"] >= count / 10)
    yield _flat(tenth, rows[-1], small=small)
    rate = count * STEPS / rows[-1]["s"]
    yield f"{figure(count / rows[-1]['s'])} instances and {figure(rate)} activities a second, starts included"


def _report_outrun(part: str, sizes: _Sizes, *, small: bool, plots: Path | None) -> Iterator[str]:
    is_wire = part.startswith("wire-")
    title = f"Clients outrun the worker for {sizes.outrun_s:g} s, {_where(is_wire)}"
    _say(title)
    found = _measured(part, situation="outrun", seconds=sizes.outrun_s, count=sizes.warm_ups)
    rows = found["samples"]
    if plots is not None:
        _draw(rows, title, plots / f"load-{part}.svg")
    yield title + "\n"
    yield _samples_table(rows, with_files=not is_wire)
    tenth = next(row for row in rows if row["s"] >= rows[-1]["s"] / 10)
    yield _flat(tenth, rows[-1], small=small)
    yield (
        f"{found['started']:,} started, {rows[-1]['ended']:,.0f} finished, {found['refused']:,} refused;"
        f" the longest call for many of a client: {figure(found['longest'])} s"
    )
    if not is_wire and not small:
        most = max(row["messages"] + row["activities"] for row in rows)
        limit = 2 * WAITING_MAX
        yield str(
            Verdict(
                passed=most <= _BACKLOG_MAX * limit,
                text=f"at most {most:,.0f} messages and activities waited; the limits are {WAITING_MAX:,} of each",
            )
        )


def _report_finished(count: int, *, small: bool) -> Iterator[str]:
    _say(f"{count:,} finished instances, embedded hub")
    steps = in_fresh_process("load.situations", situation="finished", count=count)["steps"]
    rows = [
        (s["what"], f"{s['count']:,}", *(figure(s[key]) for key in ("s", "tenth_mib", "rss_mib")))
        for s in steps
    ]
    headings = ("instances", "s", "RSS after a tenth, MiB", "RSS at the end, MiB")
    yield table((f"of {count:,} finished instances", *headings), rows)
    worst = max(steps, key=lambda step: step["rss_mib"] / step["tenth_mib"])
    yield _flat({"rss_mib": worst["tenth_mib"]}, worst, small=small)


def _samples_table(rows: list[dict[str, float]], *, with_files: bool) -> str:
    every = max(1, len(rows) // 12)
    shown = [*rows[::every], *([] if (len(rows) - 1) % every == 0 else [rows[-1]])]
    headings = ("s", "ended", "unfinished", "messages", "activities", "oldest, s", "RSS, MiB", "files, MiB")
    keys = ("ended", "unfinished", "messages", "activities")
    last = ("lag_s", "rss_mib", *(("file_mib",) if with_files else ()))
    return table(
        headings if with_files else headings[:-1],
        [
            (f"{row['s']:.1f}", *(f"{row[key]:,.0f}" for key in keys), *(figure(row[key]) for key in last))
            for row in shown
        ],
    )


def _flat(tenth: dict[str, float], last: dict[str, float], *, small: bool) -> str:
    growth = last["rss_mib"] / tenth["rss_mib"]
    text = (
        f"RSS at the end is {growth:.2f} of what it was after a tenth, at most {_GROWTH_MAX:.2f}:"
        f" {figure(last['rss_mib'])} and {figure(tenth['rss_mib'])} MiB"
    )
    return SMALL_SAYS if small else str(Verdict(passed=growth <= _GROWTH_MAX, text=text))


def _draw(rows: list[dict[str, float]], title: str, path: Path) -> None:
    times = [row["s"] for row in rows]

    def curve(name: str, key: str) -> Curve:
        return Curve(name, times, [row[key] for row in rows])

    curves = [
        curve("unfinished instances", "unfinished"),
        curve("messages to\norchestrations that wait", "messages"),
        curve("activities that wait", "activities"),
        curve("age of the oldest\nunfinished, s", "lag_s"),
        curve("memory of client and\nworker, MiB", "rss_mib"),
    ]
    plot(title, curves, path)


def _where(is_wire: bool) -> str:
    return "over the wire" if is_wire else "embedded hub"


def _say(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)

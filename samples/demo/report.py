"""What the demo found, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Finding", "table"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One job: what was expected of it and what came of it.

    ``calls`` counts the activity calls that ran, ``runs`` how often activities ran for them, ``events`` the
    events of the orchestration's history, ``wrong`` says what is not as expected.
    """

    job: str
    expected: str
    actual: str
    calls: int
    runs: int
    events: int
    seconds: float
    wrong: list[str] = field(default_factory=list[str])


_HEAD = ("job", "expected", "actual", "calls", "runs", "events", "seconds", "")


def table(findings: Sequence[Finding]) -> str:
    """Return the findings as lines of text, one a job; numbers stand to the right."""
    rows = [_HEAD, *(_cells(finding) for finding in findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _cells(finding: Finding) -> tuple[str, ...]:
    return (
        finding.job,
        finding.expected,
        finding.actual,
        f"{finding.calls:,}",
        f"{finding.runs:,}",
        f"{finding.events:,}",
        f"{finding.seconds:.2f}",
        "WRONG" if finding.wrong else "ok",
    )


def _line(row: tuple[str, ...], widths: Sequence[int]) -> str:
    numbers = range(3, 7)
    cells = (
        cell.rjust(width) if column in numbers else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()

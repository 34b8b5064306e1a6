"""Curves over time as an SVG picture for the documentation; needs matplotlib (in the group ``dev``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Curve", "plot"]


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity over time: seconds, and its values."""

    name: str
    times: Sequence[float]
    values: Sequence[float]


def plot(title: str, curves: Sequence[Curve], path: Path) -> None:
    """Draw each curve into an axis of its own, one below the other, all from zero, and write the file."""
    import matplotlib  # slow to import, and only drawing needs it

    matplotlib.use("svg")
    # The same picture from the same figures: no random ids, no date, letters as letters.
    matplotlib.rcParams.update({"svg.hashsalt": "durabletask_azure", "svg.fonttype": "none"})
    from matplotlib import pyplot

    made: Any = pyplot.subplots(len(curves), 1, sharex=True, figsize=(8, 1.5 * len(curves)))
    picture, axes = made
    for axis, curve in zip(axes, curves, strict=True):
        axis.plot(curve.times, curve.values, linewidth=1.2)
        axis.set_ylim(0, 1.1 * max(curve.values, default=0) or 1)
        axis.set_ylabel(curve.name, rotation=0, horizontalalignment="right", verticalalignment="center")
        axis.grid(visible=True, linewidth=0.3)
    axes[0].set_title(title)
    axes[-1].set_xlabel("s")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(picture)

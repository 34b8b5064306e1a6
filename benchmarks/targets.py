"""What our hub has to reach beside the best peer of the same run, and whether it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.tables import figure

__all__ = ["SMALL_SAYS", "Verdict", "judge"]

SMALL_SAYS = "Targets are judged at full size only; these figures say only that everything runs."

Medians = Mapping[str, Mapping[str, float]]
"""Median figures by system and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether one target was reached, and the figures that say so."""

    passed: bool
    text: str

    def __str__(self) -> str:
        return f"{'PASS' if self.passed else 'FAIL'}  {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    name: str
    key: str
    unit: str
    factor: float
    is_rate: bool = False


_BESIDE_THE_BEST = (
    _Target(name="W1", key="W1", unit="orchestrations/s", factor=8.0, is_rate=True),
    _Target(name="W2", key="W2", unit="s", factor=0.15),
    _Target(name="W3 p50", key="W3 p50", unit="ms", factor=0.6),
    _Target(name="W4, 800 steps", key="W4 800", unit="s", factor=0.6),
)
_GROWTH_MAX = 9.0


def judge(medians: Medians, own: str, own_spread: str) -> list[Verdict]:
    """Return the verdicts on our medians; those beside peers only if a peer ran.

    ``own`` is our hub in one process, which all targets are judged on; throughput is judged also on ``own_spread``,
    our hub in several processes, as those of the peers are several that use all processors.
    """
    ours = medians[own]
    peers = {system: figures for system, figures in medians.items() if system not in (own, own_spread)}
    verdicts = [_beside(target, ours[target.key], peers) for target in _BESIDE_THE_BEST if peers]
    if peers and own_spread in medians:
        throughput = _BESIDE_THE_BEST[0]
        verdicts.insert(1, _beside(throughput, medians[own_spread][throughput.key], peers, own_spread))
    growth = ours["W4 800"] / ours["W4 100"]
    text = (
        f"W4, growth: 800 steps take {figure(growth)} times what 100 steps take, at most {_GROWTH_MAX:g}:"
        f" {figure(ours['W4 800'])} s and {figure(ours['W4 100'])} s"
    )
    return [*verdicts, Verdict(passed=growth <= _GROWTH_MAX, text=text)]


def _beside(target: _Target, value: float, peers: Medians, ours: str = "") -> Verdict:
    choose = max if target.is_rate else min
    best, best_value = choose(
        ((system, figures[target.key]) for system, figures in peers.items()), key=lambda pair: pair[1]
    )
    ratio = value / best_value
    name = f"{target.name} of {ours}" if ours else target.name
    text = (
        f"{name}: {ratio:.2f} of the best peer, at {'least' if target.is_rate else 'most'} {target.factor:g}:"
        f" {figure(value)} and {figure(best_value)} {target.unit} ({best})"
    )
    return Verdict(passed=ratio >= target.factor if target.is_rate else ratio <= target.factor, text=text)

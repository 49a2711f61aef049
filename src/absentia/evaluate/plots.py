"""The figure that a report is about: score against how much is absent, drawn on matplotlib axes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from absentia.evaluate.ranking import absent_count, pattern_words, ranked
from absentia.evaluate.svg import COLOURS
from absentia.evaluate.wording import Scale, finite, metric_words, short

__all__ = ["draw_scores", "score_axis"]

NAMED_PATTERNS = 15  # up to that many dots there is room for the name of the worst
MOST_DOTS = 600
SHIFT = 0.2  # of method and reference to either side of their tick
Columns = dict[int, list[float]]


@dataclass(frozen=True, kw_only=True)
class Side:
    """How the method or its reference looks."""

    label: str
    colour: str
    face: str
    marker: str
    dashes: Any
    shift: float


def draw_scores(axes: Axes, report: Mapping[str, Any]) -> None:
    """One mark for each pattern over the number of its absent modalities, lines through the means.

    `report` is what report.json holds; its reference is drawn beside in a second colour when it has one.
    """
    rows = ranked(report)
    beside = any(finite(row.get("reference")) is not None for row in rows)
    method, reference = _sides(report, SHIFT if beside else 0.0)
    _draw_side(axes, _by_absent(rows, "score"), method)
    if beside:
        _draw_side(axes, _by_absent(rows, "reference"), reference)
    most = max((absent_count(row) for row in rows), default=0)
    axes.set_xlim(-0.45, most + 0.45)
    axes.set_xticks(range(most + 1))
    axes.set_xlabel("modalities absent")
    score_axis(axes, report, [row.get(key) for row in rows for key in ("score", "reference")])
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, columnspacing=1.2, handletextpad=0.5)
    _name_worst(axes, rows, method.shift)


def score_axis(axes: Axes, report: Mapping[str, Any], values: Sequence[Any]) -> None:
    """Label and ticks of an axis of the report's metric; `values` are all that the axis shows."""
    scale = Scale.of(report["metric"], values)
    direction = "" if report["higher_is_better"] else ", lower is better"
    axes.set_ylabel(short(metric_words(report["metric"]), 30) + direction)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    bottom, top = axes.get_ylim()
    if scale.factor > 1 and (top - bottom) * scale.factor >= 4:
        scale = Scale(factor=scale.factor, decimals=0, unit=scale.unit)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: scale.figure(value)))


def _sides(report: Mapping[str, Any], shift: float) -> tuple[Side, Side]:
    method, reference = COLOURS["method"], COLOURS["reference"]
    return (
        Side(label=report["method"], colour=method, face=method, marker="o", dashes="-", shift=-shift),
        Side(
            label=str(report.get("reference_method")),
            colour=reference,
            face=COLOURS["card"],
            marker="D",
            dashes=(0, (4, 2)),
            shift=shift,
        ),
    )


def _by_absent(rows: Sequence[Mapping[str, Any]], key: str) -> Columns:
    """The scores over each number of absent modalities."""
    columns: Columns = defaultdict(list)
    for row in rows[:MOST_DOTS]:
        if (value := finite(row.get(key))) is not None:
            columns[absent_count(row)].append(value)
    return dict(sorted(columns.items()))


def _draw_side(axes: Axes, columns: Columns, side: Side) -> None:
    look: dict[str, Any] = {"color": side.colour, "markerfacecolor": side.face, "marker": side.marker}
    everything = [value for values in columns.values() for value in values]
    reach = (max(everything, default=1.0) - min(everything, default=0.0)) or 1.0
    many = len(everything) > 100
    for absent, values in columns.items():
        places = [absent + side.shift + spot for spot in _swarm(values, near=reach * (0.018 if many else 0.03))]
        size = 3 if many else 5.5
        axes.plot(places, sorted(values), linestyle="", markersize=size, clip_on=False, zorder=3, **look)
    line: dict[str, Any] = {"linestyle": side.dashes, "linewidth": 2}
    means = [float(np.mean(values)) for values in columns.values()]
    axes.plot([absent + side.shift for absent in columns], means, color=side.colour, zorder=2, **line)
    axes.plot([], [], markersize=5.5, label=short(side.label, 16), **line, **look)  # what the legend shows


def _swarm(values: Sequence[float], *, near: float, step: float = 0.05, widest: int = 3) -> list[float]:
    """Sideways places for sorted values, so that those nearer than `near` do not hide each other."""
    order = [0, *(sign * place for place in range(1, widest + 1) for sign in (1, -1))]
    placed: list[tuple[float, int]] = []
    for value in sorted(values):
        taken = {place for other, place in placed[-len(order) :] if value - other < near}
        free = (place for place in order if place not in taken)
        placed.append((value, next(free, order[len(placed) % len(order)])))
    return [place * step for _, place in placed]


def _name_worst(axes: Axes, rows: Sequence[Mapping[str, Any]], shift: float) -> None:
    if not 0 < len(rows) <= NAMED_PATTERNS or finite(rows[0]["score"]) is None or not absent_count(rows[0]):
        return
    axes.annotate(
        short(pattern_words(rows[0]["present"], 14), 26),
        (absent_count(rows[0]) + shift, rows[0]["score"]),
        xytext=(-9, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=10,
        color=COLOURS["ink"],
        zorder=5,
    )

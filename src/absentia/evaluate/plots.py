"""The figures of a report, each a function that draws on matplotlib axes; `to_svg` puts them into the page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from absentia.evaluate.curves import Curve, Curves
from absentia.evaluate.svg import COLOURS
from absentia.evaluate.wording import Scale, absent_count, finite, metric_words, pattern_words, ranked, short

__all__ = ["draw_loss", "draw_scores", "draw_validation"]

NAMED_STAGES = 5
MOST_DOTS = 600
SIDE = 0.2


# --- score against what is absent --------------------------------------------------------------------------------------

def draw_scores(axes: Axes, report: Mapping[str, Any]) -> None:
    """One dot for each pattern over the number of its absent modalities, a line through the means, the reference beside."""
    rows = ranked(report)
    sides = [("score", report["method"], "method", "o", "-")]
    if any(finite(row.get("reference")) is not None for row in rows):
        sides.append(("reference", report["reference_method"], "reference", "D", (0, (4, 2))))
    for number, (key, name, colour, marker, dashes) in enumerate(sides):
        shift = 0.0 if len(sides) == 1 else (-SIDE, SIDE)[number]
        _draw_side(axes, _by_absent(rows, key), label=short(name, 24), colour=COLOURS[colour], marker=marker, dashes=dashes, shift=shift)
    _dress(axes, report, [row.get(key) for row in rows for key, *_ in sides])
    _name_worst(axes, rows, shift=-SIDE if len(sides) == 2 else 0.0)


def _by_absent(rows: Sequence[Mapping[str, Any]], key: str) -> dict[int, list[float]]:
    columns: dict[int, list[float]] = defaultdict(list)
    for row in rows[:MOST_DOTS]:
        if (value := finite(row.get(key))) is not None:
            columns[absent_count(row)].append(value)
    return dict(sorted(columns.items()))


def _draw_side(axes: Axes, columns: Mapping[int, list[float]], *, label: str, colour: str, marker: str, dashes: Any, shift: float) -> None:
    hollow = marker != "o"
    everything = [value for values in columns.values() for value in values]
    reach = (max(everything, default=1.0) - min(everything, default=0.0)) or 1.0
    small = len(everything) > 100
    for absent, values in columns.items():
        spots = _swarm(values, near=reach * (0.018 if small else 0.03))
        axes.plot([absent + shift + spot for spot in spots], sorted(values), marker, color=colour, markersize=3 if small else 5.5,
                  markerfacecolor=COLOURS["card"] if hollow else colour, markeredgewidth=1.2, alpha=1.0 if hollow else 0.8,
                  clip_on=False, zorder=3)
    means = [float(np.mean(values)) for values in columns.values()]
    axes.plot([absent + shift for absent in columns], means, color=colour, linestyle=dashes, linewidth=2, zorder=2)
    axes.plot([], [], color=colour, linestyle=dashes, linewidth=2, marker=marker, markersize=5.5, label=label,
              markerfacecolor=COLOURS["card"] if hollow else colour)


def _swarm(values: Sequence[float], *, near: float, step: float = 0.05, widest: int = 3) -> list[float]:
    """Sideways places for sorted values, so that those nearer than `near` do not hide each other."""
    order = [0, *(sign * place for place in range(1, widest + 1) for sign in (1, -1))]
    placed: list[tuple[float, int]] = []
    for value in sorted(values):
        close = {place for other, place in placed[-len(order):] if value - other < near}
        placed.append((value, next((place for place in order if place not in close), order[len(placed) % len(order)])))
    return [place * step for _, place in placed]


def _dress(axes: Axes, report: Mapping[str, Any], values: Sequence[Any]) -> None:
    scale = Scale.of(report["metric"], values)
    most = max((absent_count(row) for row in report["patterns"]), default=0)
    axes.set_xlim(-0.45, most + 0.45)
    axes.set_xticks(range(most + 1))
    axes.set_xlabel("modalities absent")
    _score_axis(axes, report, scale)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, columnspacing=1.2, handletextpad=0.5, borderaxespad=0.2)


def _score_axis(axes: Axes, report: Mapping[str, Any], scale: Scale) -> None:
    direction = "" if report["higher_is_better"] else ", lower is better"
    axes.set_ylabel(short(metric_words(report["metric"]), 30) + direction)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    short_scale = Scale(factor=scale.factor, decimals=0 if scale.factor > 1 else scale.decimals, unit=scale.unit)
    span = (axes.get_ylim()[1] - axes.get_ylim()[0]) * scale.factor
    chosen = short_scale if span >= 4 else scale
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: chosen.figure(value)))


def _name_worst(axes: Axes, rows: Sequence[Mapping[str, Any]], shift: float) -> None:
    if not rows or finite(rows[0]["score"]) is None or not absent_count(rows[0]):
        return
    place = (absent_count(rows[0]) + shift, rows[0]["score"])
    axes.annotate(short(pattern_words(rows[0]["present"], 14), 26), place, xytext=(-9, 0), textcoords="offset points",
                  ha="right", va="center", fontsize=10, color=COLOURS["ink"], zorder=5)


# --- training curves ---------------------------------------------------------------------------------------------------

def draw_loss(axes: Axes, training: Curves) -> None:
    """The loss over steps, with its parts where it has several; stages are marked."""
    styles = (("third", "--"), ("fourth", "-."), ("soft", ":"), ("reference", "--"))
    for (name, part), (colour, dashes) in zip(training.parts.items(), styles, strict=False):
        _line(axes, part, color=COLOURS[colour], linestyle=dashes, linewidth=1.2, label=short(name, 18))
    _line(axes, training.loss, color=COLOURS["method"], linewidth=1.8, label="loss")
    seen = training.loss.y
    if len(seen) and seen.min() > 0 and seen.max() > 30 * seen.min():
        axes.set_yscale("log")
    axes.set_ylabel("loss")
    if training.parts:
        axes.legend(loc="upper right", ncols=1, handletextpad=0.5)
    _mark_stages(axes, training)


def draw_validation(axes: Axes, training: Curves, report: Mapping[str, Any]) -> None:
    """The validation score over steps: the mean over patterns as a line, from the worst to the best as a band."""
    if len(training.worst):
        axes.fill_between(training.worst.x, training.worst.y, training.best.y, color=COLOURS["method"], alpha=0.16, linewidth=0)
    _line(axes, training.score, color=COLOURS["method"], linewidth=1.8, marker="o" if len(training.score) < 40 else "", markersize=4)
    _score_axis(axes, report, Scale.of(report["metric"], training.best.y.tolist() + training.score.y.tolist()))
    _mark_stages(axes, training)


def _line(axes: Axes, curve: Curve, **look: Any) -> None:
    if len(curve) == 1 and not look.get("marker"):
        look["marker"] = "o"
    axes.plot(curve.x, curve.y, **look)


def _mark_stages(axes: Axes, training: Curves) -> None:
    axes.set_xlabel("step")
    axes.set_xlim(0, training.last_step * 1.02 or 1)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if len(training.stages) < 2:
        return
    for number, (name, start) in enumerate(training.stages):
        if number:
            axes.axvline(start, color=COLOURS["soft"], linewidth=0.8, linestyle=(0, (1, 2)))
        if len(training.stages) <= NAMED_STAGES:
            axes.text(start, 1.02, short(name, 14), transform=axes.get_xaxis_transform(), fontsize=10, color=COLOURS["soft"], va="bottom")

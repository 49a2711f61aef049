"""The figures of a stream: the score after each session, pattern by pattern, and the training losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from absentia.evaluate.continual import stage_means
from absentia.evaluate.curves import Curve, Curves, curves
from absentia.evaluate.plots import score_axis
from absentia.evaluate.streams.view import Line, Pattern, Points, Stream, points_of
from absentia.evaluate.svg import COLOURS
from absentia.evaluate.training_plots import draw_loss
from absentia.evaluate.wording import short

__all__ = [
    "MOST_LINES",
    "draw_after",
    "draw_losses",
    "draw_patterns",
    "legend_above",
    "legend_words",
    "losses",
    "shown_patterns",
]

MOST_LINES = 12
NAMED_PATTERNS, MOST_NAMED = 5, 3  # all of up to five patterns are lines; of more the worst three and the full one
MARKED_SESSIONS = 24
LOOKS = [
    ("method", "-", "o"),
    ("reference", (0, (4, 2)), "D"),
    ("third", (0, (1, 1)), "s"),
    ("fourth", "-.", "^"),
    ("soft", (0, (6, 1.5)), "v"),
    ("ink", (0, (2, 1)), "X"),
    ("reference", (0, (1, 2)), "P"),
    ("third", (0, (5, 2, 1, 2)), "<"),
    ("fourth", (0, (7, 3)), ">"),
    ("soft", (0, (1, 1)), "h"),
    ("ink", (0, (8, 2, 1, 2)), "d"),
    ("method", (0, (3, 1.5)), "p"),
]


def draw_after(axes: Axes, lines: Sequence[Line], report: Mapping[str, Any]) -> None:
    """The mean over the sessions so far after each session, a line for each of at most twelve streams."""
    for number, line in enumerate(lines[:MOST_LINES]):
        _draw_line(axes, line.points, number, line.label, main=number == 0)
    everything = [y for line in lines[:MOST_LINES] for _, y in line.points]
    score_axis(axes, report, everything)
    axes.set_xlabel("after session")
    _whole_steps(axes)
    if len(lines) > 1:
        legend_above(axes)


def shown_patterns(patterns: Sequence[Pattern]) -> list[Pattern]:
    """Which patterns are lines: all if they are few, else the full one and those that end worst."""
    if len(patterns) <= NAMED_PATTERNS:
        chosen = list(patterns)
    else:
        chosen = [*patterns[:MOST_NAMED], *(one for one in patterns[MOST_NAMED:] if one.full)]
    return sorted(chosen, key=lambda one: not one.full)


def draw_patterns(axes: Axes, stream: Stream) -> None:
    """For each pattern the mean over the sessions so far; a band from the worst to the best where they are many."""
    courses = {id(one): _course(one, stream.places) for one in stream.patterns}
    for number, one in enumerate(shown_patterns(stream.patterns)):
        points = courses[id(one)]
        _draw_line(axes, points, number, one.words, main=one.full)
    if len(stream.patterns) > NAMED_PATTERNS:
        x, low, high = _band(list(courses.values()))
        axes.fill_between(
            x, low, high, color=COLOURS["method"], alpha=0.13, linewidth=0, label="all patterns", zorder=1
        )
    score_axis(axes, stream.report, [y for course in courses.values() for _, y in course])
    axes.set_xlabel("after session")
    _whole_steps(axes)
    legend_above(axes)


def losses(report: Mapping[str, Any], numbers: Sequence[str]) -> Curves:
    """The training losses of all sessions on one axis of steps; empty where the report has none."""
    stages: list[tuple[str, float]] = []
    loss: Points = []
    parts: dict[str, Points] = {}
    start = 0.0
    for number, one in zip(numbers, report.get("curves") or [], strict=False):
        stages.append((f"session {number}", start))
        here = points_of(one.get("loss"))
        loss += [(x + start, y) for x, y in here]
        for name, part in (one.get("parts") or {}).items():
            parts.setdefault(name, []).extend((x + start, y) for x, y in points_of(part))
        start += max((x for x, _ in here), default=0.0)
    empty = Curve.of([])
    drawn = {name: Curve.of(points) for name, points in parts.items()}
    return Curves(
        stages=stages, loss=Curve.of(loss), parts=drawn, score=empty, worst=empty, best=empty, last_step=start
    )


def draw_losses(axes: Axes, course: Curves, report: Mapping[str, Any]) -> None:
    """The training losses over the steps of all sessions, their names below: above stand those of the sessions."""
    draw_loss(axes, course, curves([]), report)
    if axes.get_legend() is not None:
        axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.16), ncols=3, columnspacing=1.2, handletextpad=0.5)


def _draw_line(axes: Axes, points: Points, number: int, label: str, *, main: bool) -> None:
    colour, dashes, marker = LOOKS[number % len(LOOKS)]
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        color=COLOURS[colour],
        linestyle=dashes,
        linewidth=2.2 if main else 1.5,
        marker=marker if len(points) <= MARKED_SESSIONS else "",
        markersize=5.5 if main else 4.5,
        markerfacecolor=COLOURS[colour] if main else COLOURS["card"],
        label=legend_words(label, 20),
        clip_on=False,
        zorder=4 - 0.05 * number,  # the first line is on top
    )


def _course(pattern: Pattern, places: Sequence[float]) -> Points:
    """The mean over the sessions so far after each session, where it is defined."""
    return [(x, y) for x, y in zip(places, stage_means(pattern.matrix), strict=False) if y is not None]


def _band(courses: Sequence[Points]) -> tuple[list[float], list[float], list[float]]:
    """Where any course has a point, the lowest and the highest."""
    columns: dict[float, list[float]] = {}
    for x, y in (point for course in courses for point in course):
        columns.setdefault(x, []).append(y)
    places = sorted(columns)
    return places, [min(columns[x]) for x in places], [max(columns[x]) for x in places]


def _whole_steps(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    low, high = axes.get_xlim()
    if high - low < 1:
        middle = round((low + high) / 2)
        axes.set_xlim(middle - 0.5, middle + 0.5)


def legend_words(name: str, length: int) -> str:
    """A name as the legend takes it: matplotlib leaves out what is empty or begins with an underscore."""
    words = short(name, length)
    return words if words and not words.startswith("_") else f"\u2009{words}"


def legend_above(axes: Axes, columns: int = 2) -> None:
    """The legend above the axes, beginning at their left end."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        columnspacing=1.2,
        handletextpad=0.5,
    )

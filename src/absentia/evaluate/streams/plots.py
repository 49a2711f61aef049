"""The figures of a stream: the score after each session, pattern by pattern, queries on the plane, losses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from absentia.evaluate.continual import stage_means
from absentia.evaluate.curves import Curve, Curves
from absentia.evaluate.plots import score_axis
from absentia.evaluate.streams.view import Line, Pattern, Stream
from absentia.evaluate.svg import COLOURS
from absentia.evaluate.wording import finite, short, value_words

__all__ = ["MOST_LINES", "draw_after", "draw_patterns", "draw_queries", "losses", "queries_of", "shown_patterns"]

MOST_LINES = 9
NAMED_PATTERNS, MOST_NAMED = 5, 3  # all of up to five patterns are lines; of more the worst three and the full one
MARKED_SESSIONS = 24
MOST_LABELS = 5
LABEL_COLOURS = ("method", "reference", "third", "fourth", "ink")
Points = list[tuple[float, float]]
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
]


def draw_after(axes: Axes, lines: Sequence[Line], report: Mapping[str, Any]) -> None:
    """The mean over the sessions so far after each session, a line for each of at most nine streams."""
    for number, line in reversed(list(enumerate(lines[:MOST_LINES]))):
        _draw_line(axes, line.points, number, line.label, main=number == 0)
    everything = [y for line in lines[:MOST_LINES] for _, y in line.points]
    score_axis(axes, report, everything)
    axes.set_xlabel("after session")
    _whole_steps(axes)
    if len(lines) > 1:
        _legend(axes)


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
    if len(stream.patterns) > NAMED_PATTERNS:
        x, low, high = _band(list(courses.values()))
        axes.fill_between(x, low, high, color=COLOURS["method"], alpha=0.13, linewidth=0, label="all patterns")
    for number, one in reversed(list(enumerate(shown_patterns(stream.patterns)))):
        points = courses[id(one)]
        _draw_line(axes, points, number, one.words, main=one.full)
    score_axis(axes, stream.report, [y for course in courses.values() for _, y in course])
    axes.set_xlabel("after session")
    _whole_steps(axes)
    _legend(axes)


def queries_of(entry: Mapping[str, Any]) -> tuple[Points, Points, list[str]] | None:
    """True and reconstructed points and the labels of an entry of "queries"; None where they are not usable."""
    true, again = (_points(entry.get(key)) for key in ("true", "reconstructed"))
    labels = [value_words(label, 18) for label in entry.get("labels") or []]
    usable = true and len(true) == len(again) == len(labels)
    return (true, again, labels) if usable else None


def draw_queries(axes: Axes, true: Points, again: Points, labels: Sequence[str]) -> None:
    """True queries as dots, reconstructed ones as hollow diamonds, a thin line between the two of a row."""
    names = [name for name, _ in Counter(labels).most_common(MOST_LABELS)]
    axes.add_collection(LineCollection(list(zip(true, again, strict=True)), colors=COLOURS["line"], linewidths=0.8))
    for name, colour in [(None, "soft"), *zip(names, LABEL_COLOURS, strict=False)]:
        chosen = [place for place, label in enumerate(labels) if (label if label in names else None) == name]
        look: dict[str, Any] = {"linestyle": "", "color": COLOURS[colour], "markersize": 4.5}
        axes.plot(*_columns(true, chosen), marker="o", **look)
        axes.plot(*_columns(again, chosen), marker="D", markerfacecolor=COLOURS["card"], **look)
        if chosen and len(names) > 1:
            axes.plot([], [], marker="o", label=short(name or "others", 18), **look)
    axes.plot([], [], marker="o", linestyle="", color=COLOURS["ink"], label="true")
    axes.plot([], [], marker="D", linestyle="", color=COLOURS["ink"], markerfacecolor=COLOURS["card"], label="rebuilt")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.04)
    _legend(axes, columns=3)


def losses(report: Mapping[str, Any], numbers: Sequence[str]) -> Curves:
    """The training losses of all sessions on one axis of steps; empty where the report has none."""
    stages: list[tuple[str, float]] = []
    loss: Points = []
    parts: dict[str, Points] = {}
    start = 0.0
    for number, one in zip(numbers, report.get("curves") or [], strict=False):
        stages.append((f"session {number}", start))
        here = _points(one.get("loss"))
        loss += [(x + start, y) for x, y in here]
        for name, part in (one.get("parts") or {}).items():
            parts.setdefault(name, []).extend((x + start, y) for x, y in _points(part))
        start += max((x for x, _ in here), default=0.0)
    empty = Curve.of([])
    drawn = {name: Curve.of(points) for name, points in parts.items()}
    return Curves(
        stages=stages, loss=Curve.of(loss), parts=drawn, score=empty, worst=empty, best=empty, last_step=start
    )


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
        label=short(label, 24),
        clip_on=False,
        zorder=4 if main else 3,
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


def _legend(axes: Axes, columns: int = 2) -> None:
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda place: handles[place].get_zorder() < 4)  # the main line first
    axes.legend(
        [handles[place] for place in order],
        [labels[place] for place in order],
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        columnspacing=1.2,
        handletextpad=0.5,
    )


def _points(pairs: Any) -> Points:
    found = []
    for pair in pairs or []:
        x, y = (finite(value) for value in list(pair)[:2])
        if x is not None and y is not None:
            found.append((x, y))
    return found


def _columns(points: Points, chosen: Sequence[int]) -> tuple[list[float], list[float]]:
    return [points[place][0] for place in chosen], [points[place][1] for place in chosen]

"""True and reconstructed queries on the plane: which can be drawn, the figure, and how to read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from absentia.evaluate.streams.plots import legend_above, legend_words
from absentia.evaluate.streams.view import Points, Stream, points_of, spread
from absentia.evaluate.svg import COLOURS
from absentia.evaluate.wording import finite, short, value_words

__all__ = ["draw_queries", "drawn_queries", "queries_of", "query_words"]

MOST_QUERIES, MOST_LABELS, MOST_POINTS = 6, 5, 300
LABEL_COLOURS = ("method", "reference", "third", "fourth", "ink")
Json = Mapping[str, Any]


def drawn_queries(stream: Stream) -> list[tuple[str, Json]]:
    """The entries of "queries" that can be drawn, by modality."""
    entries = [entry for entry in stream.report.get("queries") or [] if queries_of(entry) is not None]
    return [(short(entry.get("modality", "queries"), 40), entry) for entry in entries[:MOST_QUERIES]]


def queries_of(entry: Json) -> tuple[Points, Points, list[str]] | None:
    """True and reconstructed points and the labels of an entry of "queries"; None where they are not usable."""
    true, again = (points_of(entry.get(key)) for key in ("true", "reconstructed"))
    labels = [value_words(label, 18) for label in entry.get("labels") or []]
    if not true or not len(true) == len(again) == len(labels):
        return None
    chosen = spread(len(true), MOST_POINTS)
    return [true[k] for k in chosen], [again[k] for k in chosen], [labels[k] for k in chosen]


def draw_queries(axes: Axes, true: Points, again: Points, labels: Sequence[str]) -> None:
    """True queries as dots, reconstructed ones as hollow diamonds, a thin line between the two of a row."""
    names = sorted((name for name, _ in Counter(labels).most_common(MOST_LABELS)), key=lambda name: (len(name), name))
    axes.add_collection(LineCollection(list(zip(true, again, strict=True)), colors=COLOURS["line"], linewidths=0.8))
    for name, colour in [(None, "soft"), *zip(names, LABEL_COLOURS, strict=False)]:
        chosen = [place for place, label in enumerate(labels) if (label if label in names else None) == name]
        look: dict[str, Any] = {"linestyle": "", "color": COLOURS[colour], "markersize": 4}
        axes.plot(*_columns(true, chosen), marker="o", **look)
        axes.plot(*_columns(again, chosen), marker="D", markerfacecolor="none", **look)
    shown = [*zip(names, LABEL_COLOURS, strict=False)] if len(names) > 1 else []
    for label, colour in [*shown, *([("others", "soft")] if set(labels) - set(names) else [])]:
        axes.plot([], [], marker="o", linestyle="", color=COLOURS[colour], markersize=4, label=legend_words(label, 18))
    axes.plot([], [], marker="o", linestyle="", color=COLOURS["ink"], label="true")
    axes.plot([], [], marker="D", linestyle="", color=COLOURS["ink"], markerfacecolor="none", label="reconstructed")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.04)
    legend_above(axes, columns=3)


def query_words(entry: Json) -> str:
    """How to read the map of one modality's queries, and how like the two kinds are."""
    words = "Each line joins a row's true query and the one reconstructed while the modality was hidden."
    fit, other = finite(entry.get("fit")), finite(entry.get("fit_shuffled"))
    if fit is not None:
        words += f" Their mean cosine similarity is {fit:.2f}".replace("-", "−")
        words += "." if other is None else f"; to the queries of other rows it is {other:.2f}.".replace("-", "−")
    layout = {"pca": "the two main axes", "t-SNE": "t-SNE"}.get(str(entry.get("layout")))
    return words + (f" Laid out by {layout}." if layout else "")


def _columns(points: Points, chosen: Sequence[int]) -> tuple[list[float], list[float]]:
    return [points[place][0] for place in chosen], [points[place][1] for place in chosen]

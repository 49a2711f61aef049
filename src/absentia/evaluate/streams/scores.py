"""What the page says of a stream's scores: cards, the matrix, patterns, other metrics, other streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from absentia.evaluate.continual import FIGURES, summarise
from absentia.evaluate.sections.listing import Listing, listed
from absentia.evaluate.sections.shades import shaded
from absentia.evaluate.streams.view import Figures, Line, Stream, spread
from absentia.evaluate.streams.wording import EXPLAINED, TITLES, trend_words
from absentia.evaluate.wording import Scale, finite, metric_words, short

__all__ = ["WIDE_SESSIONS", "five", "matrix_heat", "metric_rows", "pattern_rows", "stream_cards", "stream_rows"]

MOST_SESSIONS = 24
MOST_PATTERNS = 40
MOST_STREAMS = 24
WIDE_SESSIONS = 8
EMPTY = {"text": "", "style": "", "mute": False}
Json = Mapping[str, Any]


def stream_cards(stream: Stream) -> list[dict[str, str]]:
    """The five figures that have a value."""
    return [
        {
            "name": TITLES[name],
            "score": trend_words(name, stream.figures[name], stream.metric, stream.scale),
            "code": name,
            "explained": EXPLAINED[name],
        }
        for name in FIGURES
        if stream.figures[name] is not None
    ]


def matrix_heat(stream: Stream, among: Sequence[Any] | None = None, *, mute: bool = False) -> dict[str, Any]:
    """The matrix as a heat map with the mean of each row; of very many sessions some, evenly.

    `among`: all values that share the shading, where there are several matrices.  mute: colours only, no means.
    """
    shown = spread(len(stream.matrix), MOST_SESSIONS)
    values = [[stream.matrix[t][i] if i <= t else None for i in shown] for t in shown]
    flat = [value for row in values for value in row]
    cells = shaded(flat, stream.scale, higher=stream.higher, among=among)
    rows = []
    for place, t in enumerate(shown):
        here = cells[place * len(shown) : (place + 1) * len(shown)]
        row = [cell and {**cell, "mute": mute} if i <= t else EMPTY for cell, i in zip(here, shown, strict=True)]
        mean = {"text": stream.scale.bare(stream.after[t]), "style": "font-weight:600", "mute": False}
        rows.append({"name": f"session {stream.numbers[t]}", "cells": row if mute else [*row, mean]})
    return {
        "corner": "after",
        "columns": [*(stream.numbers[i] for i in shown), *([] if mute else ["mean"])],
        "rows": rows,
        "left": len(stream.matrix) - len(shown),
        "wide": len(shown) > WIDE_SESSIONS and not mute,
        "mute": mute,
    }


def pattern_rows(stream: Stream) -> dict[str, Any] | None:
    """The five figures of each pattern, worst first; of many the worst and the full one."""
    if len(stream.patterns) < 2:
        return None
    kept = stream.patterns[:MOST_PATTERNS]
    if (full := next((one for one in stream.patterns if one.full), None)) is not None and full not in kept:
        kept[-1] = full
    scale = Scale.of(stream.metric, (value for one in stream.patterns for row in one.matrix for value in row))
    rows = [{"name": one.words, "full": one.full, "cells": five(one.figures, scale)} for one in kept]
    return {"rows": rows, "left": len(stream.patterns) - len(kept)}


def metric_rows(stream: Stream) -> list[dict[str, Any]]:
    """The five figures by every other metric that was measured."""
    rows = []
    for name, matrix in list((stream.report.get("matrices") or {}).items())[:8]:
        if name == stream.metric:
            continue
        values = [[finite(value) for value in (list(row) + [None] * t)[: t + 1]] for t, row in enumerate(matrix)]
        scale = Scale.of(name, (value for row in values for value in row))
        rows.append({"name": metric_words(short(name, 40)), "cells": five(summarise(values, name != "mae"), scale)})
    own = {"name": metric_words(stream.metric), "cells": five(stream.figures, stream.scale)}
    return [own, *rows] if rows else []


def stream_rows(lines: Sequence[Line], report: Json) -> Listing:
    """The five figures of several streams under each other, each column's best marked."""
    scale = Scale.of(report["metric"], (line.figures.get(name) for line in lines for name in FIGURES))
    best = {name: _best([line.figures.get(name) for line in lines], name, report) for name in FIGURES}
    rows = []
    for line in lines:
        cells = five(line.figures, scale)
        for name, cell in zip(FIGURES, cells, strict=True):
            value = line.figures.get(name)
            cell["best"] = len(lines) > 1 and value is not None and value == best[name]
        rows.append({"name": short(line.label, 80), "cells": cells})
    return listed(rows, MOST_STREAMS)


def five(figures: Figures, scale: Scale) -> list[dict[str, Any]]:
    """The five figures as cells of a table."""
    values = {name: figures.get(name) for name in FIGURES}
    return [{"text": scale.bare(value), "sort": value, "best": False} for value in values.values()]


def _best(values: Sequence[float | None], name: str, report: Json) -> float | None:
    known = [value for value in values if value is not None]
    highest = bool(report["higher_is_better"]) and not name.startswith("forgetting")
    return (max if highest else min)(known, default=None)

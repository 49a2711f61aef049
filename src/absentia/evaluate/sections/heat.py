"""The heat map: which metric falls where, or which modality carries and which is missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from absentia.evaluate.ranking import pattern_words, ranked
from absentia.evaluate.sections.shades import shaded
from absentia.evaluate.wording import Scale, finite, metric_words, short

__all__ = ["heat"]

Json = Mapping[str, Any]
ERRORS = frozenset({"mae", "mse", "rmse", "loss", "log_loss", "brier", "ece"})
MOST_METRICS, MOST_MODALITIES = 8, 24
CAPTION = (
    "Mean score of all patterns that have the row's modality and lack the column's: the deeper the blue, the "
    "better. A pale column is a modality that is missed; a deep row is one that carries."
)


def heat(report: Json) -> dict[str, Any] | None:
    """Patterns by metrics for up to three modalities; beyond, mean scores with one present and another absent."""
    if len(report["modalities"]) <= 3:
        return _heat_of_metrics(report)
    return _heat_of_modalities(report)


def _heat_of_metrics(report: Json) -> dict[str, Any] | None:
    rows = ranked(report)
    names = list(dict.fromkeys(name for row in rows for name in row.get("metrics") or {}))[:MOST_METRICS]
    if not names:
        return None
    values = {name: [(row.get("metrics") or {}).get(name) for row in rows] for name in names}
    columns = [_shaded(column, name, name not in ERRORS) for name, column in values.items()]
    return {
        "title": "Every metric, pattern by pattern",
        "corner": "pattern",
        "columns": [metric_words(name) for name in names],
        "rows": [
            {"name": pattern_words(row["present"], 28), "cells": cells}
            for row, cells in zip(rows, zip(*columns, strict=True), strict=True)
        ],
        "caption": "Each column has its own scale: the deeper the blue, the better.",
    }


def _heat_of_modalities(report: Json) -> dict[str, Any]:
    names = list(report["modalities"])[:MOST_MODALITIES]
    pairs = [(here, gone) for here in names for gone in names]
    means = [_mean_score(report, here, gone) for here, gone in pairs]
    cells = _shaded(means, report["metric"], report["higher_is_better"])
    for number, (here, gone) in enumerate(pairs):
        if here == gone:
            cells[number] = None
    return {
        "title": "Which modality carries, which is missed",
        "corner": "present ↓ absent →",
        "columns": [short(name, 28) for name in names],
        "rows": [
            {"name": short(name, 28), "cells": cells[start : start + len(names)]}
            for name, start in zip(names, range(0, len(cells), len(names)), strict=True)
        ],
        "caption": CAPTION,
    }


def _shaded(values: Sequence[Any], metric: str, higher: bool) -> list[dict[str, Any] | None]:
    return shaded(values, Scale.of(metric, values), higher=higher)


def _mean_score(report: Json, here: str, gone: str) -> float | None:
    rows = [row for row in report["patterns"] if row["present"].get(here) and not row["present"].get(gone)]
    known = [number for row in rows if (number := finite(row["score"])) is not None]
    return sum(known) / len(known) if known else None

"""How well a model holds for every pattern, as an object to look at: a table, a plot, a page for notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from io import StringIO
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from rich.console import Console

from absentia.evaluate.headline import headline
from absentia.evaluate.plots import draw_scores
from absentia.evaluate.ranking import one_modality
from absentia.evaluate.svg import to_svg
from absentia.evaluate.terminal import PatternTable
from absentia.evaluate.wording import NOT_KNOWN, clean, finite

__all__ = ["Robustness"]

COLUMNS = ("pattern", "n", "score", "low", "high", "drop")
WIDTH = 80  # characters of the text form


class Robustness:
    """The robustness report of one table.

    report: everything that was found, as report.json holds it.
    """

    def __init__(self, report: Mapping[str, Any]) -> None:
        self.report = dict(report)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each pattern, worst first.

        pattern: what is present.  n: how many rows have all of it.  score, low, high: the metric and its 95 %
        interval.  drop: what is lost against everything present, above zero is worse.  reference: the score of
        ignoring absence, where the model was trained with `reference=True`.
        """
        rows = self.report["patterns"]
        beside = ("reference",) if any(row["reference"] is not None for row in rows) else ()
        columns = {name: [row[name] for row in rows] for name in (*COLUMNS, *beside)}
        numbers = dict.fromkeys(set(columns) - {"pattern", "n"}, "float64")
        return pd.DataFrame(columns).astype(numbers)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Score over the number of absent modalities, one mark for each pattern; returns the axes."""
        if ax is None:
            _, ax = plt.subplots(layout="constrained")
            ax.spines[["top", "right"]].set_visible(False)
        draw_scores(ax, clean(self.report))
        return ax

    def __repr__(self) -> str:
        text = StringIO()
        console = Console(file=text, width=WIDTH, force_terminal=False, force_jupyter=False, color_system=None)
        console.print(PatternTable(self.report))
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def _repr_html_(self) -> str:
        report = clean(self.report)
        words = escape("".join(piece.words for piece in headline(report)))
        table = self.table.to_html(index=False, border=0, float_format="{:.3f}".format, na_rep=NOT_KNOWN)
        return f"<p>{words}</p>{self._figure(report)}{table}"

    def _figure(self, report: Mapping[str, Any]) -> str:
        if one_modality(report) or all(finite(row["score"]) is None for row in report["patterns"]):
            return ""
        figure = to_svg(lambda axes: draw_scores(axes, report), name=f"robustness-{id(self):x}")
        return f'<div style="max-width: 30em; background: #fff">{figure}</div>'

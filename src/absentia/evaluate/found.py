"""What modalities found of each other, as a table for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from absentia.evaluate.terminal import printable
from absentia.evaluate.wording import short

__all__ = ["FoundTable"]

NAME = 14  # letters of a modality
MEANING = "in %: @k own row among the first k, mAP mean average precision, EER equal error rate"


class FoundTable:
    """What rich prints for the report of `retrieve_run`: a line for each ordered pair of modalities."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        self.report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return printable(self._parts(), console, options)

    def _parts(self) -> Iterator[RenderableType]:
        by = self.report["by"]
        yield Text(f"Rows of the same {short(by, 30)} belong together." if by else "Each row belongs to itself alone.")
        yield self._table()
        yield Text(MEANING, style="dim")
        for note in self.report["notes"]:
            yield Text(f"Note: {note}", style="yellow")

    def _table(self) -> Table:
        pairs = self.report["pairs"]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("", no_wrap=True)
        for heading in ("rows", *(f"@{k}" for k in pairs[0]["recall"]), "rank", "mAP", "EER"):
            table.add_column(heading, justify="right", no_wrap=True)
        for pair in pairs:
            names = f"{short(pair['query'], NAME)} to {short(pair['found'], NAME)}"
            shares = [*pair["recall"].values(), pair["mean_average_precision"], pair["eer"]]
            *recall, precision, error = map(_percent, shares)
            rows, rank = Text(f"{pair['rows']:,}", style="dim"), f"{pair['median_rank']:,.0f}"
            table.add_row(names, rows, *recall, rank, precision, error)
        return table


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"

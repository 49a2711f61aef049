"""The table of a study of adapters for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from absentia.evaluate.adapters.view import StudyView, bytes_words, share_words
from absentia.evaluate.terminal import printable
from absentia.evaluate.wording import finite, seconds_words, short

__all__ = ["StudyTable"]

COLUMNS = ("mean", "worst", "won back", "of the parameters", "file", "time")


class StudyTable:
    """What rich prints for the report of `absentia adapt`."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        self.view = StudyView(report)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return printable(self._parts(), console, options)

    def _parts(self) -> Iterator[RenderableType]:
        view = self.view
        yield Text("".join(piece.words for piece in view.headline()).replace("\u00a0", " "), style="bold")
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column(Text("adapted by"), no_wrap=True)
        for name in COLUMNS:
            table.add_column(Text(name), justify="right")
        for row in view.rows:
            closed = view.closed(row)
            cells = [
                view.scale.bare(row["mean"]),
                view.scale.bare(row["worst"]),
                "" if closed is None or row["row"] == "base" else f"{100 * closed:.0f} %",
                "" if row["row"] == "base" else f"{share_words(view.share(row))} %",
                "" if not row["bytes"] else bytes_words(row["bytes"]),
                seconds_words(row["seconds"]),
            ]
            style = "bold cyan" if row is view.best else "dim" if row["row"] == "base" else ""
            table.add_row(Text(short(view.name(row), 34)), *map(Text, cells), style=style)
        yield table
        lost = sorted(view.report["importance"].items(), key=lambda item: -(finite(item[1]) or 0.0))
        words = ", ".join(f"{short(name, 30)} {view.scale.signed(-drop)}" for name, drop in lost)
        yield Text(f"One modality filled in at a time, before adapting: {words}", style="dim")

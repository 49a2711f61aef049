"""The table of a stream for a terminal of 80 columns: the matrix, the five figures, and the patterns at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from absentia.evaluate.continual import FIGURES
from absentia.evaluate.streams.view import Pattern, Stream, spread
from absentia.evaluate.streams.wording import TITLES, stream_headline, trend_words
from absentia.evaluate.terminal import legend, printable, squares
from absentia.evaluate.wording import Scale, metric_words, short

__all__ = ["StreamTable", "two_lines"]

MOST_SESSIONS, FEWEST_SESSIONS = 10, 3
MOST_ROWS, WORST_ROWS = 12, 8


class StreamTable:
    """What rich prints for the report of a stream."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        self.stream = Stream.of(report)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return printable(self._parts(console, options), console, options)

    def _parts(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        stream = self.stream
        yield Text("".join(piece.words for piece in stream_headline(stream)).replace("\u00a0", " "), style="bold")
        if len(stream.matrix) > 1:
            yield Text(
                f"{metric_words(stream.metric)} on the test rows of each session, after each session", style="dim"
            )
            yield self._fitting(console, options)
        yield self._figures()
        if len(stream.patterns) > 1:
            yield Text("")
            yield legend(stream.modalities)[1]
            yield self._patterns()
            if left := len(stream.patterns) - len(self._shown()):
                yield Text(
                    f"{left} more patterns, none of them worse, are in report.html and report.json.", style="dim"
                )
        for note in stream.report.get("notes") or []:
            yield Text(f"Note: {short(note, 400)}", style="yellow")

    def _fitting(self, console: Console, options: ConsoleOptions) -> Table:
        """The matrix with as many sessions as there is room for, the first and the last among them."""
        table = self._matrix(MOST_SESSIONS)
        for most in range(MOST_SESSIONS, FEWEST_SESSIONS - 1, -1):
            table = self._matrix(most)
            if console.measure(table, options=options.update(width=10_000)).maximum <= options.max_width:
                break
        return table

    def _matrix(self, most: int) -> Table:
        stream, shown = self.stream, spread(len(self.stream.matrix), most)
        table = _table("after")
        for name in [*(stream.numbers[i] for i in shown), "mean"]:
            table.add_column(Text(name), justify="right", no_wrap=True)
        for t in shown:
            cells = [stream.scale.bare(stream.matrix[t][i]) if i <= t else "" for i in shown]
            marked = [Text(cell, style="bold cyan" if i == t else "") for cell, i in zip(cells, shown, strict=True)]
            mean = Text(stream.scale.bare(stream.after[t]), style="bold")
            table.add_row(Text(f"session {stream.numbers[t]}"), *marked, mean)
        return table

    def _figures(self) -> Table:
        """The five figures with the names that they have in the JSON."""
        stream = self.stream
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        for style in ("", "bold cyan", "dim"):
            table.add_column(style=style, justify="right" if style == "bold cyan" else "left", no_wrap=True)
        for name in FIGURES:
            if stream.figures[name] is not None:
                words = trend_words(name, stream.figures[name], stream.metric, stream.scale).replace("\u00a0", " ")
                table.add_row(TITLES[name], words, name)
        return table

    def _shown(self) -> Sequence[Pattern]:
        patterns = self.stream.patterns
        if len(patterns) <= MOST_ROWS:
            return patterns
        return [*patterns[:WORST_ROWS], *(one for one in patterns[WORST_ROWS:] if one.full)]

    def _patterns(self) -> Table:
        stream = self.stream
        scale = Scale.of(stream.metric, (value for one in stream.patterns for row in one.matrix for value in row))
        table = _table(legend(stream.modalities)[0])
        for name in FIGURES:
            table.add_column(Text(two_lines(name)), justify="right", no_wrap=True)
        for one in self._shown():
            first = Text(short(one.words, 30)) if one.present is None else squares(one.present)
            average, *others = (Text(scale.bare(one.figures[figure])) for figure in FIGURES)
            average.stylize("bold cyan")
            table.add_row(first, average, *others)
        return table


def two_lines(name: str) -> str:
    """average_last as a heading of two lines that is as narrow as its longer word."""
    return name.replace("_", "\n")


def _table(first: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(Text(first), no_wrap=True)
    return table

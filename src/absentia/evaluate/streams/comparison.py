"""Several streams side by side: one line for each, and a clear word where they should not be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from absentia.errors import UserError
from absentia.evaluate.comparable import SHARED, Check, differing_in, run_names
from absentia.evaluate.continual import FIGURES
from absentia.evaluate.streams.contract import is_stream
from absentia.evaluate.streams.terminal import two_lines
from absentia.evaluate.streams.view import Figures, Stream
from absentia.evaluate.terminal import printable
from absentia.evaluate.wording import Scale, clean, metric_words, short, value_words

__all__ = ["StreamComparison", "StreamRow", "compare_streams"]

Json = Mapping[str, Any]


CHECKS = (
    *SHARED,
    Check("numbers of sessions", lambda report: len(report["matrix"]), value_words, "they are not equally long"),
)


@dataclass(frozen=True, kw_only=True)
class StreamRow:
    """One stream: its name, how many sessions it has, its five figures by name."""

    name: str
    metric: str
    sessions: int
    figures: Figures


@dataclass(frozen=True, kw_only=True)
class StreamComparison:
    """Several streams, in the order given, and why they may not stand beside each other. Rich prints it.

    higher_is_better: of the first one's metric.  warnings: sentences; empty where the comparison is fair.
    """

    rows: tuple[StreamRow, ...]
    higher_is_better: bool
    warnings: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return printable(self._parts(), console, options)

    def _parts(self) -> Iterator[RenderableType]:
        for warning in self.warnings:
            yield Text(f"Warning: {warning}", style="bold yellow")
        if self._same_metric():
            lower = "" if self.higher_is_better else ", lower is better"
            yield Text(f"{metric_words(self.rows[0].metric)}{lower}; of what was forgotten, less is better.")
        yield self._table()

    def best(self, figure: str) -> float | None:
        """The best value of a figure; None where it cannot be said."""
        known = [value for row in self.rows if (value := row.figures[figure]) is not None]
        if len(known) < 2 or not self._same_metric():
            return None
        return max(known) if self.higher_is_better and not figure.startswith("forgetting") else min(known)

    def _same_metric(self) -> bool:
        return len({row.metric for row in self.rows}) == 1

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("stream", overflow="fold", min_width=14)
        table.add_column("ses-\nsions", justify="right")
        for name in FIGURES:
            table.add_column(two_lines(name), justify="right", no_wrap=True)
        for row in self.rows:
            tail = "" if self._same_metric() else f"\n{metric_words(row.metric)}"
            values = [value for one in self.rows if one.metric == row.metric for value in one.figures.values()]
            scale = Scale.of(row.metric, values)
            cells = [self._cell(row, figure, scale) for figure in FIGURES]
            table.add_row(Text(short(row.name, 60) + tail), Text(str(row.sessions), style="dim"), *cells)
        return table

    def _cell(self, row: StreamRow, figure: str, scale: Scale) -> Text:
        value = row.figures[figure]
        best = value is not None and value == self.best(figure)
        return Text(scale.bare(value), style="bold cyan" if best else "")


def compare_streams(reports: Sequence[Json], names: Sequence[str] | None = None) -> StreamComparison:
    """The streams under each other.

    `names`: of the runs, else each is called by method and seed. Raises UserError when there is nothing to compare,
    or a report that is not one of a stream.
    """
    if not reports:
        raise UserError("There is no stream to compare: give at least one run folder with a report.json.")
    reports = [clean(report) for report in reports]
    called = run_names(reports, names)
    for name, report in zip(called, reports, strict=True):
        if not is_stream(report):
            raise UserError(_no_stream(name, [n for n, one in zip(called, reports, strict=True) if is_stream(one)]))
    streams = [Stream.of(report) for report in reports]
    return StreamComparison(
        rows=tuple(
            StreamRow(name=name, metric=one.metric, sessions=len(one.matrix), figures=one.figures)
            for name, one in zip(called, streams, strict=True)
        ),
        higher_is_better=streams[0].higher,
        warnings=(*differing_in(reports, CHECKS), *_other_sessions(reports)),
    )


def _no_stream(name: str, streams: Sequence[str]) -> str:
    """Why a run of one training does not stand beside these streams, or where there are none, on their page."""
    if not streams:
        return f"{name} is not a stream of sessions, and the page shows streams; leave it out for runs of one training."
    return (
        f"{name} is not a stream of sessions and {streams[0]} is: compare streams with streams, "
        "and runs of one training with each other."
    )


def _other_sessions(reports: Sequence[Json]) -> Iterator[str]:
    """A sentence for the first session that brings other classes, and for the first with other test rows."""
    together = list(zip(*(report.get("sessions") or [] for report in reports), strict=False))
    checks: tuple[tuple[Callable[[Json], Any], str, str], ...] = (
        (_classes, "brings other classes", "they do not arrive in the same order"),
        (_test_rows, "has other test rows", "the streams were not tested on the same rows"),
    )
    for read, what, follows in checks:
        for place, sessions in enumerate(together):
            found = list(dict.fromkeys(read(session) for session in sessions))
            if len(found) > 1:
                said = " / ".join(value_words(value, 40) for value in found)
                yield f"session {short(sessions[0].get('number', place), 12)} {what} ({said}): {follows}."
                break


def _classes(session: Json) -> tuple[str, ...]:
    return tuple(sorted(str(name) for name in session.get("classes") or []))


def _test_rows(session: Json) -> Any:
    return (session.get("rows") or {}).get("test")

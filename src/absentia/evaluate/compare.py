"""Several runs side by side, pattern by pattern, and a clear word where they should not be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from absentia.errors import UserError
from absentia.evaluate.comparable import differing, here, run_names
from absentia.evaluate.ranking import pattern_words
from absentia.evaluate.streams.comparison import StreamComparison, compare_streams
from absentia.evaluate.streams.contract import is_stream
from absentia.evaluate.terminal import legend, printable, squares
from absentia.evaluate.wording import Scale, clean, finite, metric_words, short

__all__ = ["Comparison", "Row", "compare"]

RUNS_BESIDE = 4  # that many fit 80 columns; further runs follow in a table below


@dataclass(frozen=True, kw_only=True)
class Row:
    """One pattern (or the mean or the worst of all) in every run.

    differences: to the first run, above zero is better; None without a score or with another metric.
    """

    name: str
    present: dict[str, bool] | None
    scores: tuple[float | None, ...]
    differences: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several runs: their scores by pattern, and why they may not stand beside each other. Rich prints it.

    summary: the mean and the worst of each run.  warnings: sentences; empty where the comparison is fair.
    """

    names: tuple[str, ...]
    metrics: tuple[str, ...]
    modalities: tuple[str, ...]
    rows: tuple[Row, ...]
    summary: tuple[Row, ...]
    warnings: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return printable(self._parts(), console, options)

    def _parts(self) -> Iterator[RenderableType]:
        for warning in self.warnings:
            yield Text(f"Warning: {warning}", style="bold yellow")
        same = len(set(self.metrics)) == 1
        if same:
            yield Text(f"{metric_words(self.metrics[0])}; differences are to the first run, above zero is better.")
        yield legend(self.modalities)[1]
        for start in range(1, max(2, len(self.names)), RUNS_BESIDE - 1):
            yield self._table([0, *range(start, min(start + RUNS_BESIDE - 1, len(self.names)))], name_metrics=not same)

    def _table(self, runs: Sequence[int], *, name_metrics: bool) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column(legend(self.modalities)[0], no_wrap=True)
        for run in runs:
            tail = f"\n{metric_words(self.metrics[run])}" if name_metrics else ""
            table.add_column(Text(short(self.names[run], 40) + tail), justify="right", overflow="fold", min_width=12)
        scales = [Scale.of(metric, (row.scores[run] for row in self.rows)) for run, metric in enumerate(self.metrics)]
        for row in (*self.rows, *self.summary):
            first = Text(row.name) if row.present is None else squares(row.present)
            table.add_row(first, *(_cell(row, run, scales[run]) for run in runs))
        return table


def compare(reports: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> Comparison | StreamComparison:
    """The runs beside each other, patterns that are worst on average first; differences are to the first run.

    `names`: of the runs, else each is called by method and seed. Patterns that only some runs know have gaps.
    Reports of streams stand under each other by their five figures, as `compare_streams` tells.
    Raises UserError when there is nothing to compare, or streams are mixed with runs of one training.
    """
    if not reports:
        raise UserError("There is no run to compare: give at least one run folder with a report.json.")
    if any(is_stream(report) for report in reports):
        return compare_streams(reports, names)
    reports = [clean(report) for report in reports]
    modalities = tuple(dict.fromkeys(name for report in reports for name in report["modalities"]))
    patterns = dict.fromkeys(here(row) for report in reports for row in report["patterns"])
    rows = [_row(pattern, modalities, reports) for pattern in patterns]
    higher = bool(reports[0]["higher_is_better"])
    return Comparison(
        names=run_names(reports, names),
        metrics=tuple(report["metric"] for report in reports),
        modalities=modalities,
        rows=tuple(sorted(rows, key=lambda row: _mean(row) if higher else -_mean(row))),
        summary=tuple(
            _line(key, None, [finite(report.get(key)) for report in reports], reports) for key in ("mean", "worst")
        ),
        warnings=tuple(differing(reports)),
    )


def _row(pattern: frozenset[str], modalities: Sequence[str], reports: Sequence[Mapping[str, Any]]) -> Row:
    present = {name: name in pattern for name in modalities}
    found = [next((row for row in report["patterns"] if here(row) == pattern), None) for report in reports]
    return _line(
        pattern_words(present),
        present,
        [None if row is None else finite(row["score"]) for row in found],
        reports,
    )


def _line(
    name: str,
    present: dict[str, bool] | None,
    scores: Sequence[float | None],
    reports: Sequence[Mapping[str, Any]],
) -> Row:
    sign = 1.0 if reports[0]["higher_is_better"] else -1.0
    first = scores[0]
    differences = tuple(
        None if first is None or score is None or report["metric"] != reports[0]["metric"] else sign * (score - first)
        for score, report in zip(scores, reports, strict=True)
    )
    return Row(name=name, present=present, scores=tuple(scores), differences=differences)


def _mean(row: Row) -> float:
    known = [score for score in row.scores if score is not None]
    return sum(known) / len(known) if known else float("inf")


def _cell(row: Row, run: int, scale: Scale) -> Text:
    text = Text(scale.bare(row.scores[run]), style="bold")
    difference = row.differences[run]
    if run and difference is not None:
        text.append(
            f" {scale.signed(difference):>6}",
            style="cyan" if difference > 0 else "yellow" if difference < 0 else "dim",
        )
    return text

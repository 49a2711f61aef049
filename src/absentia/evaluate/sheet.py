"""A table of a paper: one CSV line for each run and pattern, in the order in which patterns were asked for."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absentia.errors import UserError
from absentia.evaluate.streams.contract import is_stream

__all__ = ["sheet"]

FIRST = ("run", "pattern", "n", "score")


def sheet(reports: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """CSV: run, pattern, n, the main score, then every other metric; after a run's patterns their plain mean.

    Patterns come as the run's settings list them, or where these list none the worst first. What is unknown is empty
    and has no say in a mean. Raises `UserError` for streams of sessions.
    """
    for report, name in zip(reports, names, strict=True):
        if is_stream(report):
            raise UserError(f"{name} is a stream of sessions; a CSV holds scores of patterns")
    metrics = list(dict.fromkeys(key for report in reports for line in report["patterns"] for key in line["metrics"]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FIRST, *metrics])
    for report, name in zip(reports, names, strict=True):
        writer.writerows(_lines(report, name, metrics))
    return text.getvalue()


def _lines(report: Mapping[str, Any], name: str, metrics: Sequence[str]) -> Iterator[list[Any]]:
    lines = _ordered(report)
    rows = [[line["n"], line["score"], *(line["metrics"].get(key) for key in metrics)] for line in lines]
    for line, row in zip(lines, rows, strict=True):
        yield [name, line["pattern"], *row]
    yield [name, "mean", None, *(_mean(column) for column in list(zip(*rows, strict=True))[1:])]


def _ordered(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The lines of a report by the settings' list, which may name a pattern's modalities in any order."""
    asked = [
        frozenset(part.strip() for part in name.split("+")) for name in report.get("config", {}).get("patterns", [])
    ]
    place = {pattern: i for i, pattern in reversed(list(enumerate(asked)))}
    return sorted(report["patterns"], key=lambda line: place.get(frozenset(line["pattern"].split("+")), len(asked)))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

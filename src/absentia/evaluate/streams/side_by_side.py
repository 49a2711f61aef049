"""The page on which several streams stand beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from absentia.evaluate.page import filled
from absentia.evaluate.sections.about import Fact
from absentia.evaluate.sections.listing import listed
from absentia.evaluate.streams.comparison import compare_streams
from absentia.evaluate.streams.page import after_figure
from absentia.evaluate.streams.plots import MOST_LINES
from absentia.evaluate.streams.scores import WIDE_SESSIONS, matrix_heat, stream_rows
from absentia.evaluate.streams.view import Pattern, Stream
from absentia.evaluate.streams.wording import TITLES, streams_headline
from absentia.evaluate.wording import Scale, metric_words, short
from absentia.writing import replacing

__all__ = ["render_streams", "write_streams"]

MOST_STREAMS, MOST_COLUMNS, MOST_PATTERNS, MOST_NOTES, LONGEST = 12, 12, 40, 12, 1200
Json = Mapping[str, Any]


def write_streams(path: str | Path, reports: Sequence[Json], names: Sequence[str] | None = None) -> None:
    """Write the page of several streams; raises UserError as `render_streams` does, or where it cannot be written."""
    page = render_streams(reports, names)
    with replacing(Path(path)) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render_streams(reports: Sequence[Json], names: Sequence[str] | None = None) -> str:
    """The page of several streams, under 2 MB: their lines, figures, patterns and matrices beside each other.

    `reports`, `names`: as for `compare_streams`, whose warnings stand at the top; streams that another metric measures
    than the first are named there and not shown. Nothing in the reports is trusted. Raises UserError when there is
    nothing to compare, or a report that is not one of a stream.
    """
    found = compare_streams(reports, names)
    called = {row.name: Stream.of(report) for row, report in zip(found.rows, reports, strict=True)}
    first = next(iter(called.values()))
    shown = {name: one for name, one in called.items() if one.metric == first.metric}
    lines = [replace(one.line, label=name) for name, one in shown.items()]
    drawn, said = after_figure(lines, first.report, "Mean scores of several streams after each session.")
    return filled(
        "streams.html.j2",
        report=first.report,
        metric=metric_words(first.metric),
        headline=streams_headline(lines, first.metric, first.higher),
        cards=[],
        notes=listed((short(f"{note[:1].upper()}{note[1:]}", 600) for note in found.warnings), MOST_NOTES),
        lines=lines,
        shown_lines=min(len(lines), MOST_LINES),
        titles=TITLES,
        figures={"after": drawn},
        said={"after": said},
        figures_table=stream_rows(lines, first.report),
        patterns=_pattern_table(shown),
        matrices=_matrices(shown),
        about=_facts(shown),
    )


def _matrices(streams: Mapping[str, Stream]) -> list[dict[str, Any]]:
    among = [value for one in streams.values() for row in one.matrix for value in row]
    several = [(name, one) for name, one in streams.items() if len(one.matrix) > 1]
    mute = len(several) > 1 and any(len(one.matrix) > WIDE_SESSIONS for _, one in several)
    return [{"title": short(name, 80), **matrix_heat(one, among, mute=mute)} for name, one in several[:MOST_STREAMS]]


def _pattern_table(streams: Mapping[str, Stream]) -> dict[str, Any] | None:
    """The average at the end of every pattern in every stream, worst on average first."""
    columns = dict(list(streams.items())[:MOST_COLUMNS])
    patterns = [{one.words: one for one in stream.patterns} for stream in columns.values()]
    words = list(dict.fromkeys(name for known in patterns for name in known))
    if len(words) < 2:
        return None
    first = next(iter(streams.values()))
    rows = [_pattern_row(name, [known.get(name) for known in patterns], first) for name in words]
    rows.sort(key=lambda row: row["badness"])
    return {"columns": list(columns), "rows": rows[:MOST_PATTERNS], "left": max(0, len(rows) - MOST_PATTERNS)}


def _pattern_row(name: str, found: Sequence[Pattern | None], first: Stream) -> dict[str, Any]:
    values = [one.figures["average_last"] if one else None for one in found]
    known = [value for value in values if value is not None]
    scale = Scale.of(first.metric, known)
    best = (max if first.higher else min)(known) if len(known) > 1 else None
    mean = sum(known) / len(known) if known else float("inf")
    return {
        "name": name,
        "full": any(one.full for one in found if one),
        "badness": mean if first.higher or not known else -mean,
        "cells": [
            {"text": scale.bare(value), "sort": value, "best": value is not None and value == best} for value in values
        ],
    }


def _facts(streams: Mapping[str, Stream]) -> list[Fact]:
    return [
        Fact(short(name, 60), short(one.report.get("command") or "no command is known", LONGEST), True)
        for name, one in list(streams.items())[:MOST_COLUMNS]
    ]

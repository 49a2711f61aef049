"""A stream's report as the page and the terminal read it: cleaned, its gaps filled, its figures from its matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from absentia.evaluate.continual import stage_means, summarise
from absentia.evaluate.ranking import pattern_words
from absentia.evaluate.wording import Scale, clean, finite, short

__all__ = ["Line", "Pattern", "Points", "Stream", "lines_beside", "points_of", "spread"]

Json = Mapping[str, Any]
Matrix = list[list[float | None]]
Points = list[tuple[float, float]]
Figures = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """One pattern's matrix; `present` is None where its name does not say which modalities it has."""

    words: str
    present: dict[str, bool] | None
    matrix: Matrix
    figures: Figures

    @property
    def full(self) -> bool:
        """Whether everything is present."""
        return self.present is not None and all(self.present.values())


@dataclass(frozen=True, kw_only=True)
class Line:
    """One stream's scores after each session (x, y) and its five figures."""

    label: str
    points: Points
    figures: Figures


@dataclass(frozen=True, kw_only=True)
class Stream:
    """numbers: what the T sessions are called.  patterns: worst first at the end of the stream."""

    report: dict[str, Any]
    sessions: list[dict[str, Any]]
    numbers: list[str]
    matrix: Matrix
    figures: Figures
    after: list[float | None]
    patterns: list[Pattern]

    @classmethod
    def of(cls, report: Json) -> Stream:
        """From what report.json holds; derived figures that it holds too are not looked at."""
        report = clean(report)
        matrix, higher = _square(report["matrix"]), bool(report["higher_is_better"])
        sessions = list(report.get("sessions") or [])[: len(matrix)]
        sessions += [{} for _ in range(len(matrix) - len(sessions))]
        patterns = [_pattern(name, rows, report) for name, rows in (report.get("by_pattern") or {}).items()]
        return cls(
            report={"target": None, "seed": None, **report},
            sessions=sessions,
            numbers=[short(one.get("number", place), 12) for place, one in enumerate(sessions)],
            matrix=matrix,
            figures=summarise(matrix, higher),
            after=stage_means(matrix),
            patterns=sorted(patterns, key=lambda one: _badness(one.figures["average_last"], higher)),
        )

    @property
    def higher(self) -> bool:
        """Whether higher scores are better."""
        return bool(self.report["higher_is_better"])

    @property
    def metric(self) -> str:
        """What the scores are measured by."""
        return str(self.report["metric"])

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.report["method"])

    @property
    def modalities(self) -> list[str]:
        """Names, in order."""
        return list(self.report.get("names") or self.report["modalities"])

    @property
    def scale(self) -> Scale:
        """How scores are written."""
        return Scale.of(self.metric, (value for row in self.matrix for value in row))

    @property
    def places(self) -> list[float]:
        """Where each session stands on an axis: its number."""
        return [_place(session.get("number"), t) for t, session in enumerate(self.sessions)]

    @property
    def line(self) -> Line:
        """The scores after each session."""
        points = [(x, y) for x, y in zip(self.places, self.after, strict=True) if y is not None]
        return Line(label=self.method, points=points, figures=self.figures)


def lines_beside(entries: Sequence[Json], metric: str) -> tuple[list[Line], list[str]]:
    """The other streams of a report's `beside`, and the labels of those that are measured by another metric."""
    lines, others = [], []
    for entry in clean(list(entries)):
        label = str(entry.get("label") or entry.get("method") or "another stream")
        if (entry.get("metric") or metric) != metric:
            others.append(label)
            continue
        scores = [(_place(one.get("session"), t), finite(one.get("score"))) for t, one in enumerate(_after(entry))]
        points = [(x, y) for x, y in scores if y is not None]
        lines.append(Line(label=label, points=points, figures={k: finite(v) for k, v in entry.items()}))
    return lines, others


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the places 0 to count-1, evenly, with both ends."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()))


def points_of(pairs: Any) -> Points:
    """The [x, y] pairs of a report that are two numbers."""
    found = []
    for pair in pairs or []:
        x, y = (finite(value) for value in list(pair)[:2])
        if x is not None and y is not None:
            found.append((x, y))
    return found


def _after(entry: Json) -> list[Json]:
    return [one if isinstance(one, Mapping) else {"score": one} for one in entry.get("after") or []]


def _place(number: Any, otherwise: int) -> float:
    value = finite(number)
    return float(otherwise) if value is None else value


def _square(rows: Sequence[Sequence[Any]]) -> Matrix:
    """The lower triangle; cells that are no numbers, or are not there, are None."""
    return [[finite(value) for value in (list(row) + [None] * t)[: t + 1]] for t, row in enumerate(rows)]


def _pattern(name: str, rows: Sequence[Sequence[Any]], report: Json) -> Pattern:
    here, known = name.split("+"), list(report.get("names") or report["modalities"])
    present = {one: one in here for one in known} if set(here) <= set(known) else None
    matrix = _square(rows)
    return Pattern(
        words=short(name, 90) if present is None else pattern_words(present, 28 if len(known) < 5 else 18),
        present=present,
        matrix=matrix,
        figures=summarise(matrix, bool(report["higher_is_better"])),
    )


def _badness(score: float | None, higher: bool) -> float:
    return float("inf") if score is None else score if higher else -score

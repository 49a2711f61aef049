"""What a stream's report holds, what follows from its matrices, and how it is read."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from absentia.evaluate.continual import FIGURES, summarise
from absentia.evaluate.streams.contract import beside, completed, is_stream, session_curves
from absentia.evaluate.streams.view import Stream, lines_beside, spread

DERIVED = ("after", "by_pattern_summary", *FIGURES)


def test_derived_figures_come_from_the_matrices(made: SimpleNamespace) -> None:
    report = made.stream(4, 2)
    raw = {key: value for key, value in report.items() if key not in DERIVED}
    assert completed(raw) == report and is_stream(report) and not is_stream({"method": "ignore"})
    assert {name: report[name] for name in FIGURES} == summarise(report["matrix"])
    assert report["after"][-1] == {"session": 3, "score": report["average_last"]}
    assert report["by_pattern_summary"]["image"] == summarise(report["by_pattern"]["image"])
    json.dumps(report, allow_nan=False)


def test_wrong_derived_figures_are_not_believed(made: SimpleNamespace) -> None:
    report = made.stream(3, 2)
    wrong = report | dict.fromkeys(FIGURES, 99.0) | {"after": []}
    found, right = Stream.of(wrong), Stream.of(report)
    assert found.figures == right.figures and found.line == right.line


def test_curves_are_light_and_keep_their_parts() -> None:
    lines = [
        {"event": "train", "stage": "main", "step": step, "loss": 2.0, "losses": {"task": 1.5, "rebuild": 0.5}}
        for step in range(1, 5001)
    ]
    first, second = session_curves([lines, []])
    assert len(first["loss"]) == 300 and set(first["parts"]) == {"task", "rebuild"}
    assert second == {"loss": [], "parts": {}}


def test_gaps_of_every_kind_are_none(made: SimpleNamespace) -> None:
    report = made.stream(3, 2)
    report["matrix"] = [[0.5], [None], [float("nan"), "0.3", 0.7, 9.9]]
    report["sessions"] = report["sessions"][:1]
    stream = Stream.of(report)
    assert stream.matrix == [[0.5], [None, None], [None, None, 0.7]]
    assert stream.numbers == ["0", "1", "2"] and stream.after == [0.5, None, 0.7]
    assert stream.line.points == [(0.0, 0.5), (2.0, 0.7)]


def test_patterns_are_worst_first_and_named_in_words(made: SimpleNamespace) -> None:
    report = made.stream(3, 3)
    report["by_pattern"]["a+b"] = [[None], [None, None], [None, None, None]]
    stream = Stream.of(report)
    ends = [one.figures["average_last"] for one in stream.patterns]
    assert ends[:-1] == sorted(ends[:-1]) and ends[-1] is None
    assert stream.patterns[-1].words == "a+b" and stream.patterns[-1].present is None
    assert [one.words for one in stream.patterns if one.full] == ["everything"]
    errors = Stream.of(made.numbers())
    assert errors.patterns[0].figures["average_last"] == max(one.figures["average_last"] for one in errors.patterns)


def test_lines_beside_and_those_of_another_metric(made: SimpleNamespace) -> None:
    entry = beside(made.stream(3, 2), "ours")
    plain = {"method": "old", "after": [0.5, None, 0.3], "average_last": 0.3}
    foreign = beside(made.numbers())
    lines, others = lines_beside([entry, plain, foreign], "accuracy")
    assert [line.label for line in lines] == ["ours", "old"] and others == ["rebq, seed 0"]
    assert lines[1].points == [(0.0, 0.5), (2.0, 0.3)] and lines[1].figures["average_last"] == 0.3
    assert [y for _, y in lines[0].points] == [one["score"] for one in entry["after"]]


@given(st.integers(1, 200), st.integers(2, 30))
def test_spread_keeps_both_ends(count: int, most: int) -> None:
    places = spread(count, most)
    assert places[0] == 0 and places[-1] == count - 1 and len(places) == min(count, most)
    gaps = {b - a for a, b in itertools.pairwise(places)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_short_matrix_rows_are_an_error_where_the_report_is_made(made: SimpleNamespace) -> None:
    report: dict[str, Any] = made.stream(2, 2)
    with pytest.raises(ValueError, match="row 1 of the matrix"):
        completed(report | {"matrix": [[0.5], [0.4]]})

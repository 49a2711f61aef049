"""Streams side by side: one line for each, the best marked, and a warning wherever it is not fair."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from tests.evaluate.pages import ATTACK, Page

from absentia.errors import UserError
from absentia.evaluate.compare import compare
from absentia.evaluate.continual import FIGURES
from absentia.evaluate.streams.comparison import StreamComparison, compare_streams
from absentia.evaluate.streams.side_by_side import render_streams, write_streams

Report = dict[str, Any]


def printed(comparison: StreamComparison, width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(comparison)
    return file.getvalue()


def two(made: SimpleNamespace, **changed: Any) -> list[Report]:
    other = made.stream(4, 2, method="finetune", keeps=0.3, rich=False)
    return [made.stream(4, 2, rich=False), other | changed]


def test_compare_takes_streams(made: SimpleNamespace) -> None:
    reports = two(made)
    found = compare(reports)
    assert isinstance(found, StreamComparison) and found.warnings == ()
    assert [row.name for row in found.rows] == ["rebq, seed 0", "finetune, seed 0"]
    assert [dict(row.figures) for row in found.rows] == [{name: one[name] for name in FIGURES} for one in reports]
    assert found.best("average_last") == reports[0]["average_last"]
    assert found.best("forgetting_first") == reports[0]["forgetting_first"]
    text = printed(found)
    assert "Warning" not in text and max(map(len, text.splitlines())) <= 80
    assert len([line for line in text.splitlines() if "seed 0" in line]) == 2


def test_a_smaller_error_is_better(made: SimpleNamespace) -> None:
    worse = made.numbers()
    worse["matrix"] = [[value + 100 for value in row] for row in worse["matrix"]]
    found = compare_streams([worse, made.numbers()], ["a", "b"])
    assert found.best("average_last") == found.rows[1].figures["average_last"]
    assert "lower is better" in printed(found)


def reordered(report: Report) -> Report:
    first, second, *rest = report["sessions"]
    classes = [first["classes"], second["classes"]]
    swapped = [first | {"classes": classes[1]}, second | {"classes": classes[0]}]
    return report | {"sessions": [*swapped, *rest]}


def other_rows(report: Report) -> Report:
    report["sessions"][2]["rows"] = {"test": 12}
    return report


CHANGES: dict[str, Callable[[Report], Report]] = {
    "the mask plans differ (5d1f5d1f5d1… / none)": lambda report: report | {"plan_sha256": None},
    "the metrics differ (accuracy / macro F1)": lambda report: report | {"metric": "macro_f1"},
    "the targets differ (dish / block)": lambda report: report | {"target": report["target"] | {"column": "block"}},
    "the classes differ (16": lambda report: report | {"target": report["target"] | {"classes": ["A"]}},
    "the modalities differ": lambda report: report | {"modalities": {"image": {}}},
    "the numbers of sessions differ (4 / 2)": lambda report: report | {"matrix": report["matrix"][:2]},
    "session 0 brings other classes (bread 0": reordered,
    "session 2 has other test rows (340 / 12)": other_rows,
}


@pytest.mark.parametrize("warning", CHANGES)
def test_warns_where_streams_are_not_alike(made: SimpleNamespace, warning: str) -> None:
    first, second = two(made)
    found = compare_streams([first, CHANGES[warning](second)])
    assert any(sentence.startswith(warning) for sentence in found.warnings), found.warnings
    assert f"Warning: {warning}" in " ".join(printed(found, 300).split())
    assert warning.casefold() in Page(render_streams([first, CHANGES[warning](second)])).text.casefold()


def test_a_mix_of_streams_and_plain_runs_is_one_clear_error(made: SimpleNamespace, fake: SimpleNamespace) -> None:
    mixed = [fake.glyphs(), made.stream(3, 2, rich=False)]
    with pytest.raises(UserError, match="runs/a is not a stream of sessions and runs/b is: compare streams with"):
        compare(mixed, ["runs/a", "runs/b"])
    with pytest.raises(UserError, match="is not a stream"):
        render_streams(mixed)
    with pytest.raises(UserError, match="one name for each run"):
        compare(mixed[1:], [])
    with pytest.raises(UserError, match="no stream to compare"):
        compare_streams([])


def test_streams_with_the_same_name_are_told_apart(made: SimpleNamespace) -> None:
    found = compare_streams([made.stream(3, 2, rich=False)] * 3)
    assert [row.name for row in found.rows] == ["rebq, seed 0", "rebq, seed 0 (2)", "rebq, seed 0 (3)"]


# --- the page --------------------------------------------------------------------------------------------------------


def test_page_of_several_streams(made: SimpleNamespace, tmp_path: Path) -> None:
    reports = two(made)
    write_streams(tmp_path / "beside.html", reports, ["runs/a", "runs/b"])
    html = (tmp_path / "beside.html").read_text("utf-8")
    page = Page(html)
    assert page.text.count("runs/a") >= 4 and html.count('<table class="heat') == 2
    assert f"runs/a ends best: accuracy is {100 * reports[0]['average_last']:.1f} % on average" in page.text
    for report in reports:
        assert all(f"{100 * report[name]:.1f}" in page.text for name in FIGURES)
        assert f"{100 * report['by_pattern_summary']['image']['average_last']:.1f}" in page.text
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_page_that_cannot_be_written_is_one_sentence(made: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="beside cannot be written"):
        (tmp_path / "beside").mkdir()
        write_streams(tmp_path / "beside", two(made))


def test_runs_of_one_training_have_no_page(made: SimpleNamespace) -> None:
    run = {"method": "dropout", "seed": 0}
    with pytest.raises(UserError, match="a is not a stream of sessions, and the page shows streams; leave it out"):
        render_streams([run, run], ["a", "b"])
    with pytest.raises(UserError, match="b is not a stream of sessions and a is"):
        render_streams([made.stream(3, 2, rich=False), run], ["a", "b"])


def test_matrices_share_one_scale(made: SimpleNamespace) -> None:
    first, second = two(made)
    second["matrix"] = [[value / 2 for value in row] for row in first["matrix"]]
    html = render_streams([first, second])
    best, half = (part.split('style="')[1].split(";")[0] for part in html.split('<table class="heat')[1:])
    assert best != half  # of the first cells


def test_streams_of_another_metric_are_named_and_left_out(made: SimpleNamespace) -> None:
    page = Page(render_streams([made.stream(3, 2, rich=False), made.numbers()], ["ours", "theirs"]))
    assert "The metrics differ" in page.text and "theirs" not in page.text


def test_many_hostile_streams_stay_light(made: SimpleNamespace) -> None:
    report = made.stream(30, 4, rich=False)
    html = render_streams([report | {"command": ATTACK * 500}] * 30, [ATTACK * 20 + str(k) for k in range(30)])
    page = Page(html)
    assert len(html.encode()) < 2_000_000 and page.count()["script"] == 1 and page.count()["img"] == 0
    assert "6 more streams" in page.text


def test_one_stream_and_one_session(made: SimpleNamespace) -> None:
    assert "ends best" in Page(render_streams([made.stream(1, 1, rich=False)])).text
    nothing = made.stream(1, 1, rich=False) | {"matrix": [[None]], "by_pattern": {}}
    assert "could be scored" in Page(render_streams([nothing])).text

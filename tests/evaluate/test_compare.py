"""Runs side by side: differences to the first, and a warning wherever the comparison is not a fair one."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from absentia.errors import UserError
from absentia.evaluate.compare import Comparison, compare


def printed(comparison: Comparison, width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(comparison)
    return file.getvalue()


def better(report: dict[str, Any], by: float) -> dict[str, Any]:
    for row in report["patterns"]:
        row["score"] += by
    return report | {"method": "dedicated", "mean": report["mean"] + by, "worst": report["worst"] + by}


def test_differences_are_to_the_first_run(fake: SimpleNamespace) -> None:
    found = compare([fake.glyphs(), better(fake.glyphs(), 0.02)])
    assert found.names == ("dropout, seed 0", "dedicated, seed 0") and found.warnings == ()
    assert len(found.rows) == 7 and [row.name for row in found.summary] == ["mean", "worst"]
    for row in (*found.rows, *found.summary):
        assert row.differences == (0.0, pytest.approx(0.02))
    assert found.rows[0].name == "properties alone" and found.rows[-1].name == "everything"
    assert "Warning" not in printed(found) and "+2.0" in printed(found)


def test_a_smaller_error_is_better(fake: SimpleNamespace) -> None:
    found = compare([fake.prices(), better(fake.prices(), -500.0)])
    assert all(row.differences[1] == pytest.approx(500.0) for row in found.rows)
    assert found.rows[0].name == "photo alone"  # the largest error first


def shuffled(report: dict[str, Any]) -> dict[str, Any]:
    for row in report["patterns"]:
        row["present"] = dict(reversed(row["present"].items()))
        row["pattern"] = "+".join(reversed(row["pattern"].split("+")))
    return report | {
        "patterns": report["patterns"][::-1],
        "modalities": dict(reversed(report["modalities"].items())),
    }


def test_the_order_of_modalities_and_rows_does_not_matter(fake: SimpleNamespace) -> None:
    found = compare([fake.glyphs(), shuffled(fake.glyphs())])
    assert found.warnings == () and all(row.differences[1] == 0 for row in found.rows)


def other_n(report: dict[str, Any]) -> dict[str, Any]:
    report["patterns"][0]["n"] = 12
    return report


CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "the mask plans differ (5d1f5d1f5d1… / none)": lambda report: report | {"plan_sha256": None},
    "the metrics differ (accuracy / macro F1)": lambda report: report | {"metric": "macro_f1"},
    "the targets differ (script / block)": lambda report: report | {"target": report["target"] | {"column": "block"}},
    "the classes differ (6": lambda report: report | {"target": report["target"] | {"classes": ["A", "B"]}},
    "the test rows differ (873 / 900)": lambda report: report | {"splits": {"test": {"rows": 900}}},
    "the test rows differ: properties was scored on 873 / 12": other_n,
    "the modalities differ": lambda report: report | {"modalities": {"image": {}}},
}


@pytest.mark.parametrize("warning", CHANGES)
def test_warns_where_runs_are_not_alike(fake: SimpleNamespace, warning: str) -> None:
    found = compare([fake.glyphs(), CHANGES[warning](fake.glyphs())])
    assert any(sentence.startswith(warning) for sentence in found.warnings)
    assert f"Warning: {warning}" in " ".join(printed(found, 200).split())


def test_another_metric_has_no_difference(fake: SimpleNamespace) -> None:
    found = compare([fake.glyphs(), fake.glyphs() | {"metric": "macro_f1"}])
    assert all(row.differences == (0.0, None) for row in found.rows)
    assert "macro F1" in printed(found)


def test_patterns_that_one_run_lacks_are_gaps(fake: SimpleNamespace) -> None:
    part = fake.glyphs()
    part["patterns"] = part["patterns"][:2]
    part["patterns"][1]["score"] = float("nan")
    found = compare([fake.glyphs(), part])
    assert sum(row.scores[1] is None for row in found.rows) == 6 and "–" in printed(found)


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_many_runs_fit_a_terminal(fake: SimpleNamespace, count: int) -> None:
    found = compare([fake.glyphs() for _ in range(count)])
    assert len(set(found.names)) == count
    text = printed(found)
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    wide = printed(found, 200)
    assert all(name in wide for name in found.names)


def test_given_names_are_used_and_cannot_style_the_table(fake: SimpleNamespace) -> None:
    found = compare([fake.glyphs(), fake.glyphs()], names=["[bold]runs/a", "runs/b\x1b[1m"])
    assert "[bold]runs/a" in printed(found) and "\x1b" not in printed(found)
    with pytest.raises(UserError, match="one name for each run"):
        compare([fake.glyphs()], names=[])


def test_nothing_to_compare() -> None:
    with pytest.raises(UserError, match="no run to compare"):
        compare([])

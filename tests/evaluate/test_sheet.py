"""Scores of every pattern as CSV: in the order that the settings list, and a mean of what is known."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from absentia.cli import main
from absentia.errors import UserError
from absentia.evaluate.sheet import sheet
from absentia.evaluate.streams.contract import KIND


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_patterns_come_in_the_order_that_was_asked_for(fake: SimpleNamespace) -> None:
    report = fake.glyphs()
    asked = ["text+image", "properties", "image"]
    report["config"] = {"patterns": asked}
    rows = read(sheet([report], ["run"]))
    assert [row["pattern"] for row in rows[:3]] == ["image+text", "properties", "image"]
    assert len(rows) == 8 and rows[-1]["pattern"] == "mean" and {row["run"] for row in rows} == {"run"}
    score = {line["pattern"]: line["score"] for line in report["patterns"]}
    assert all(float(row["score"]) == score[row["pattern"]] for row in rows[:-1])
    assert float(rows[-1]["score"]) == pytest.approx(sum(score.values()) / 7)


def test_without_an_order_the_worst_is_first_and_gaps_stay_empty(fake: SimpleNamespace) -> None:
    report, other = fake.glyphs(), fake.glyphs()
    report["patterns"][0] |= {"score": None, "metrics": {}}
    other["patterns"][1]["metrics"] = {"only here": 0.5}
    rows = read(sheet([report, other], ["a", "b"]))
    assert [row["pattern"] for row in rows[:7]] == [line["pattern"] for line in report["patterns"]]
    assert rows[0]["score"] == "" and rows[0]["only here"] == "" and rows[8 + 1]["only here"] == "0.5"
    known = [line["score"] for line in report["patterns"][1:]]
    assert float(rows[7]["score"]) == pytest.approx(sum(known) / 6)
    assert rows[7]["only here"] == "" and float(rows[15]["only here"]) == 0.5


def test_from_the_command_line(fake: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(fake.glyphs()))
    runs = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert main(["compare", *runs, "--csv", str(tmp_path / "table.csv")]) == 0
    rows = read((tmp_path / "table.csv").read_text())
    assert [row["run"] for row in rows] == ["one"] * 8 + ["two"] * 8
    assert main(["compare", *runs, "--csv", str(tmp_path / "no" / "where.csv")]) == 2
    assert "where.csv cannot be written" in capsys.readouterr().err


def test_streams_have_no_patterns_to_list() -> None:
    with pytest.raises(UserError, match="plants is a stream of sessions; a CSV holds scores of patterns"):
        sheet([{"kind": KIND}], ["plants"])

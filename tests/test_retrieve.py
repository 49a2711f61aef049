"""`absentia retrieve`: the numbers of every pair of modalities, by the target or by any column, and clear refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests import miniatures

from absentia.cli import main
from absentia.config import Model, RunConfig, Training
from absentia.jobs import train_run

PAIRS = {("face", "voice"), ("voice", "face")}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on faces and voices, and a table of people that it never saw."""
    folder = tmp_path_factory.mktemp("voices")
    table = miniatures.voices(folder / "known.parquet")
    modality: dict[str, Any] = {"face": "tabular", "voice": "tabular"}
    roles = {"target": "identity=class", "id": "id", "split": "split"}
    config = RunConfig(
        table=str(table),
        modality=modality,
        **roles,
        method="single-branch",
        reference=False,
        model=Model(width=16, depth=1, heads=2, mlp=1),
        training=Training(epochs=1, batch=8, validations=1),
    )
    train_run(config, folder / "run", page=False)
    new = pq.read_table(table).drop_columns(["identity", "split"])
    who = [None if i == 0 else f"stranger {i % 4}" for i in range(len(new))]
    tags = [[f"t{i % 2}", f"u{i % 3}"] for i in range(len(new))]
    new = new.append_column("who", pa.array(who)).append_column("tags", pa.array(tags))
    pq.write_table(new, folder / "new.parquet")
    return folder


def found(home: Path, *words: str) -> dict[str, Any]:
    out = home / "found.json"
    assert main(["retrieve", str(home / "run"), *words, "--out", str(out)]) == 0
    return json.loads(out.read_text())  # type: ignore[no-any-return]


def test_the_runs_own_rows_by_its_target(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = found(home)
    assert report["by"] == "identity" and report["rows"] == 9
    assert {(pair["query"], pair["found"]) for pair in report["pairs"]} == PAIRS
    said = capsys.readouterr().out
    assert "Rows of the same identity belong together." in said and "face to voice" in said and "EER" in said


def test_people_that_were_never_seen_are_told_apart_by_a_column(home: Path) -> None:
    report = found(home, str(home / "new.parquet"), "--by", "who")
    pair = report["pairs"][0]
    assert report["rows"] == pair["rows"] == 36 and 0 <= pair["eer"] <= 1
    assert pair["mean_average_precision"] > pair["mean_reciprocal_rank"] / 36
    by_tags = found(home, str(home / "new.parquet"), "--by", "tags")["pairs"][0]
    assert by_tags["eer"] != pair["eer"], "of lists those belong together that share something"


def test_without_anything_to_go_by_a_row_finds_itself(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = found(home, str(home / "new.parquet"), "--most", "12")
    assert report["by"] is None and "Each row belongs to itself alone." in capsys.readouterr().out
    for pair in report["pairs"]:
        assert pair["rows"] == 12 < pair["available"] and pair["mean_average_precision"] is None
        assert pair["eer"] is not None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{home}/new.parquet", "--by", "whom"], "new.parquet has no such column; did you mean 'who'"),
        (["{home}/known.parquet", "--part", "dev"], "--part 'dev': known: train, val, test, all"),
        (["{home}/known.parquet", "--most", "1"], "--most 1: must be at least 2"),
        (["{home}/lone.parquet", "--by", "who"], "no row has two modalities"),
        (["{home}/strange.parquet"], "was never seen in training"),
    ],
)
def test_what_cannot_be_searched_is_one_clear_error(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    new = pq.read_table(home / "new.parquet")
    half = [None if i % 2 else face for i, face in enumerate(new["face"].to_pylist())]
    other = [voice if i % 2 else None for i, voice in enumerate(new["voice"].to_pylist())]
    lone = new.set_column(1, "face", pa.array(half)).set_column(2, "voice", pa.array(other))
    pq.write_table(lone, home / "lone.parquet")
    pq.write_table(new.rename_columns({"who": "identity"}), home / "strange.parquet")
    assert main(["retrieve", str(home / "run"), *(word.format(home=home) for word in words)]) == 2
    complaint = capsys.readouterr().err.strip()
    assert len(complaint.splitlines()) == 1 and said in complaint


def test_groups_are_values_or_lists_and_nothing_belongs_to_nobody() -> None:
    from absentia.evaluate.retrieval import _together

    alike = _together(["a", "b", None, ["a", "c"], None, 3, "3"])
    expected = np.eye(7, dtype=bool)
    for one, other in ((0, 3), (5, 6)):
        expected[one, other] = expected[other, one] = True
    assert (alike == expected).all()

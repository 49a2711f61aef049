"""`absentia embed`: everything ahead, by one process or several, and one clear line where it cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests import checkpoints, poison, tiny

from absentia.cli import main
from absentia.data.absence import MaskPlan
from absentia.data.kinds import Image
from absentia.data.schema import Schema
from absentia.data.table import open_table
from absentia.embed import _in_worker, embed_table
from absentia.errors import UserError
from absentia.models.encoders.pretrained import FrozenEncoder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABSENTIA_CACHE", str(tmp_path / "cache"))
    checkpoints.vit(tmp_path / "vit")
    checkpoints.bert(tmp_path / "bert")
    return tmp_path


def command(home: Path, rows: tiny.Rows, *more: str) -> list[str]:
    pq.write_table(tiny.table(rows), home / "table.parquet")
    return ["embed", str(home / "table.parquet"), *flags(home), *more]


def flags(home: Path) -> list[str]:
    declared = [f"photo=image:{home / 'vit'}", f"words=text:{home / 'bert'}", "facts=tabular@height,colour"]
    return [word for flag in declared for word in ("--modality", flag)]


def schema(home: Path) -> Schema:
    return Schema(modalities={"photo": Image(encoder=str(home / "vit"))}, id="id")


def failed(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    line = capsys.readouterr().err
    assert line.startswith("absentia: ") and "Traceback" not in line
    return line


def test_it_says_what_was_computed_and_found(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = command(home, tiny.rows(40, holes=0.0))
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "photo: 37 cells computed, 0 found" in said and "words: 37 cells computed, 0 found" in said
    assert f"features of 40 rows are in {home / 'cache' / 'features'}" in said
    assert main(words) == 0
    assert "photo: 0 cells computed, 37 found" in " ".join(capsys.readouterr().out.split())


def test_a_training_finds_everything(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tiny.rows(60)
    assert main(command(home, rows)) == 0
    before = {path: path.stat().st_size for path in (home / "cache").rglob("*.features")}
    monkeypatch.setattr(FrozenEncoder, "store", property(lambda self: pytest.fail("not asked for")))
    words = ["train", str(home / "table.parquet"), *flags(home), "--target", "kind", "--reference", "false"]
    words += ["--training.epochs", "1", "--model.width", "16", "--model.depth", "1"]
    assert main([*words, "--out", str(home / "without"), "--cache", "false"]) == 0
    monkeypatch.undo()
    monkeypatch.setenv("ABSENTIA_CACHE", str(home / "cache"))
    assert main([*words, "--out", str(home / "with")]) == 0
    assert {path: path.stat().st_size for path in (home / "cache").rglob("*.features")} == before
    one, other = ((home / name / "weights.safetensors").read_bytes() for name in ("without", "with"))
    assert one == other
    monkeypatch.setattr(FrozenEncoder, "_features", None)
    tail = ["--out", str(home / "answers.csv")]
    with pytest.raises(TypeError):
        main(["predict", str(home / "with"), str(home / "table.parquet"), *tail, "--cache", "false"])


def test_several_workers_make_the_same(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = command(home, tiny.rows(600, holes=0.0), "--workers", "2")
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "photo: 597 cells computed, 0 found" in said
    heard: list[tuple[int, int]] = []
    table = open_table(str(home / "table.parquet"))
    done = embed_table(table, schema(home), advance=lambda *rows: heard.append(rows))
    assert done.computed == {"photo": 0} and done.found == {"photo": 597} and done.notes == []
    assert heard == [(256, 600), (512, 600), (600, 600)]


def test_what_a_plan_hides_is_not_computed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, poisoned, plan = poison.hide_some(tiny.rows(40, holes=0.0), home, ["photo", "words"])
    plan.save(home / "plan.parquet")
    table = [word for word in command(home, poisoned, "--plan", str(home / "plan.parquet")) if "facts" not in word]
    words = [
        word for i, word in enumerate(table) if word != "--modality" or table[i + 1].startswith(("photo", "words"))
    ]
    assert main(words) == 0
    hidden = MaskPlan.load(home / "plan.parquet")
    there = sum(hidden.keep[i, 0] and row["photo"] is not None for i, row in enumerate(clean))
    assert f"photo: {there} cells computed, 0 found" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("on_bad", ["absent", "skip"])
def test_bad_cells_are_counted(home: Path, on_bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tiny.rows(40, holes=0.0)
    rows[3]["photo"] = {"bytes": b"noise", "path": None}
    rows[5]["photo"] = {"bytes": None, "path": "gone.png"}
    assert main(command(home, rows, "--on-bad", on_bad)) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "photo: 35 cells computed" in said and "words: 37 cells computed" in said
    assert "2 cells could not be read; first: row 3, column 'photo': is not an image that can be read" in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_bad_cell_stops_it(home: Path, workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tiny.rows(300, holes=0.0)
    rows[270]["photo"] = {"bytes": b"noise", "path": None}
    line = failed(command(home, rows, "--workers", workers), capsys)
    assert "row 270, column 'photo': is not an image that can be read" in line
    table = open_table(str(home / "table.parquet"))
    done = embed_table(table, schema(home), on_bad="absent")
    assert done.found["photo"] >= 253, "what was done before is kept"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--workers", "0"], "--workers 0: must be at least 1"),
        (["--on-bad", "abset"], "did you mean 'absent'?"),
        (["--plan", "gone.parquet"], "gone.parquet"),
        (["--modality", "sound=text:/no/such/folder@words"], "there is no such folder"),
    ],
)
def test_mistakes_are_one_line(home: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in failed(command(home, tiny.rows(10), *more), capsys)


def test_without_a_frozen_encoder_there_is_nothing_to_do(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(tiny.table(tiny.rows(10)), home / "table.parquet")
    line = failed(["embed", str(home / "table.parquet"), "--modality", "photo=image"], capsys)
    assert "no modality has a frozen encoder" in line
    assert "which table?" in failed(["embed"], capsys)
    tuned = Schema(modalities={"photo": Image(encoder=str(home / "vit"), tune=True)})
    with pytest.raises(UserError, match="no modality has a frozen encoder"):
        embed_table(open_table(str(home / "table.parquet")), tuned)


def test_where_nothing_can_be_kept_it_stops(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "cache").write_text("in the way")
    line = failed(command(home, tiny.rows(10)), capsys)
    assert "cannot be kept" in line and "ABSENTIA_CACHE" in line


def test_a_worker_that_is_killed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(home, tiny.rows(300))
    table = open_table(str(home / "table.parquet"))
    monkeypatch.setattr("absentia.embed._in_worker", _die)
    with pytest.raises(UserError, match="a worker was ended from outside"):
        embed_table(table, schema(home), source=str(home / "table.parquet"), workers=2)
    assert _in_worker is not _die


def _die(*_: object) -> None:
    os.kill(os.getpid(), 9)

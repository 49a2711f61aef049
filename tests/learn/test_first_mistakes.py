"""Mistakes with encoders before anything is learned: one sentence, and the same command may be tried again."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests import checkpoints, tiny

from absentia.cli import main
from absentia.data.kinds.pretrained import reach


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABSENTIA_CACHE", str(tmp_path / "cache"))
    pq.write_table(tiny.table(tiny.rows(40)), tmp_path / "table.parquet")
    return tmp_path


def train(home: Path, modality: str) -> int:
    small = ["--training.epochs", "1", "--model.width", "16", "--model.depth", "1", "--model.heads", "2"]
    words = ["train", str(home / "table.parquet"), "--modality", modality, "--target", "kind", "--split", "split"]
    return main([*words, "--out", str(home / "run"), "--reference", "false", *small])


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("absentia.data.kinds.pretrained.getaddrinfo", unknown)
    monkeypatch.setattr("absentia.data.kinds.pretrained.getproxies", dict)


def test_an_encoder_without_weights_leaves_no_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints.vit(home / "vit")
    weights = (home / "vit" / "model.safetensors").read_bytes()
    (home / "vit" / "model.safetensors").unlink()
    assert train(home, f"photo=image:{home / 'vit'}") == 2
    said = capsys.readouterr().err
    assert "no file named model.safetensors" in said and "must hold what save_pretrained writes" in said
    assert len(said.strip().splitlines()) == 1 and not (home / "run").exists()
    (home / "vit" / "model.safetensors").write_bytes(weights)
    assert train(home, f"photo=image:{home / 'vit'}") == 0


def test_other_files_in_the_folder_stay(home: Path) -> None:
    (home / "run").mkdir()
    (home / "run" / "notes.txt").write_text("mine")
    assert train(home, f"photo=image:{home / 'gone'}") == 2
    assert [path.name for path in (home / "run").iterdir()] == ["notes.txt"]


def test_without_a_network_a_hub_name_is_one_line_at_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offline(monkeypatch)
    assert train(home, "photo=image:nobody-at-all/no-such-encoder") == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1 and not (home / "run").exists()
    assert "'nobody-at-all/no-such-encoder'" in said and "hf download nobody-at-all/no-such-encoder" in said


def test_a_folder_and_a_proxy_are_never_looked_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    assert reach("owner/name") == {"local_files_only": True} and reach(str(home)) == {}
    monkeypatch.setattr("absentia.data.kinds.pretrained.getproxies", lambda: {"https": "http://proxy"})
    assert reach("owner/name") == {}


def test_texts_that_are_too_long_are_said_with_and_without_the_cache(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tiny.rows(40, holes=0.0)
    for row in rows[10:16]:
        row["words"] = "hello " * 40
    pq.write_table(tiny.table(rows), home / "table.parquet")
    checkpoints.bert(home / "bert", positions=24)
    modality = f"words=text:{home / 'bert'}"
    note = "words: at least 6 texts are longer than the 23 tokens that encoder"
    for workers in ("1", "2"):
        assert main(["embed", str(home / "table.parquet"), "--modality", modality, "--workers", workers]) == 0
        assert note in " ".join(capsys.readouterr().out.split())
    assert train(home, modality) == 0
    assert note in " ".join(capsys.readouterr().out.split())
    assert note in (home / "run" / "report.json").read_text()
    other = home / "other.parquet"
    pq.write_table(tiny.table([row | {"words": "" if i % 2 else "hello " * 40} for i, row in enumerate(rows)]), other)
    for words in (["evaluate", str(home / "run"), str(other)], ["predict", str(home / "run"), str(other)]):
        assert main([*words, "--out", str(home / f"{words[0]}.csv")]) == 0
        said = " ".join("".join(capsys.readouterr()).split())
        assert "texts are longer than the 23 tokens" in said and "texts are empty, and an empty text is there" in said

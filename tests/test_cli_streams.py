from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests import tiny

from absentia.cli import main

FLAGS = [
    *("--modality", "words=text", "--modality", "facts=tabular@height,colour", "--target", "kind"),
    *("--model.width", "16", "--model.depth", "1", "--model.heads", "2", "--model.mlp", "1"),
    *("--training.epochs", "1", "--training.batch", "16"),
]


@pytest.fixture
def table(tmp_path: Path) -> str:
    rows = [row | {"session": i // 3 % 2} for i, row in enumerate(tiny.rows())]
    pq.write_table(tiny.table(rows), tmp_path / "tiny.parquet")
    return str(tmp_path / "tiny.parquet")


def test_a_stream_is_learned_listed_rolled_back_and_compared(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    assert main(["learn", one, table, "--by", "session", "--method", "rebq", *FLAGS]) == 0
    assert "average_last" in capsys.readouterr().out
    assert (tmp_path / "one" / "report.html").stat().st_size > 10_000
    assert main(["learn", other, table, "--sessions", "2", "--method", "finetune", *FLAGS]) == 0
    page = tmp_path / "both.html"
    assert main(["compare", one, other, "--page", str(page)]) == 0
    assert "other" in page.read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["sessions", one, "--roll-back", "0"]) == 0
    assert "session 0 is the latest" in capsys.readouterr().out.replace("\n", " ")
    assert main(["learn", one]) == 0, "it goes on with what it was begun with"
    report = json.loads((tmp_path / "one" / "report.json").read_text(encoding="utf-8"))
    assert len(report["matrix"]) == 2
    assert main(["predict", one, table, "--out", str(tmp_path / "answers.csv")]) == 0
    assert main(["evaluate", one]) == 0


def test_one_session_after_the_other(table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    assert main(["learn", run, table, "--by", "session", "--session", "0", "--method", "probe", *FLAGS]) == 0
    assert main(["learn", run, "--session", "1"]) == 0
    capsys.readouterr()
    assert main(["learn", run, "--session", "1"]) == 2
    assert "roll back" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["learn", "nowhere"], "give the table that it begins with"),
        (["learn", "run", "TABLE", "--by", "sesion", *FLAGS], "did you mean 'session'"),
        (["learn", "run", "TABLE", "--by", "session", "--sessions", "2", *FLAGS], "leave one away"),
        (["learn", "run", "TABLE", "--method", "rebk", *FLAGS], "did you mean 'rebq'"),
        (["learn", "run", "TABLE", "--method", "rebq", "--options.lenght", "4", *FLAGS], "did you mean 'length'"),
        (["learn", "run", "TABLE", "--model.backbone", "gone", *FLAGS], "gone"),
        (["sessions", "nowhere"], "holds no session"),
    ],
)
def test_mistakes_are_one_sentence(
    words: list[str],
    said: str,
    table: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([table if word == "TABLE" else word for word in words]) == 2
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err

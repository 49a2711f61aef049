from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tests import tiny

from absentia.config import StreamConfig
from absentia.data.table import open_table
from absentia.errors import UserError
from absentia.evaluate.patterns import answer
from absentia.jobs import evaluate_run
from absentia.learn.run import load_run
from absentia.learn.stream import StreamFolder, changed, load_state
from absentia.streams import learn_run, settings_of

CLASSES = (["ant", "bee"], ["cat"])


def content() -> tiny.Rows:
    return [row | {"session": i // 3 % 3} for i, row in enumerate(tiny.rows())]


def settings(method: str = "dropout", **more: Any) -> StreamConfig:
    base = tiny.config(method, **{k: more.pop(k) for k in ("target", "names", "training", "options") if k in more})
    given = {name: getattr(base, name) for name in ("modality", "target", "method", "model", "training", "options")}
    return StreamConfig(table="tiny", id="id", split="split", **(given | more))


def stream(folder: Path, config: StreamConfig | None = None, **more: Any) -> dict[str, Any]:
    rows = more.pop("rows", None) or content()
    return learn_run(config or settings(by="session"), folder, source=tiny.table(rows), page=False, **more)


def tensors(folder: Path, sessions: int | None = None) -> dict[str, torch.Tensor]:
    return dict(load_state(StreamFolder(folder), sessions).tensors)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and not changed(one, other)


def files_of(folder: Path) -> dict[str, str]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream") / "run"
    stream(folder)
    return folder


def test_the_report_holds_the_matrix_and_its_figures(whole: Path) -> None:
    report = stream(whole)
    assert [len(row) for row in report["matrix"]] == [1, 2, 3]
    assert report["average_last"] == pytest.approx(np.mean(report["matrix"][2]))
    assert report["forgetting_first"] == pytest.approx(
        np.mean([report["matrix"][i][i] - report["matrix"][2][i] for i in (0, 1)])
    )
    assert set(report["by_pattern"]) >= {"words", "words+facts+wave"}
    assert [line["number"] for line in report["sessions"]] == [0, 1, 2]
    assert all(line["steps"] > 0 and line["bytes"] > 0 for line in report["sessions"])


def test_session_by_session_is_the_whole_stream(whole: Path, tmp_path: Path) -> None:
    for number in range(3):
        stream(tmp_path / "run", session=number)
        assert StreamFolder(tmp_path / "run").learned_sessions() == number + 1
    assert same(tensors(whole), tensors(tmp_path / "run"))
    first, second = (learn_report(folder)["matrix"] for folder in (whole, tmp_path / "run"))
    assert first == second


def learn_report(folder: Path) -> dict[str, Any]:
    return StreamFolder(folder).read_json(StreamFolder(folder).report)


def test_each_session_as_a_table_of_its_own_learns_the_same(whole: Path, tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.parquet")
        pq.write_table(tiny.table([row for row in content() if row["session"] == number]), paths[-1])
        given = {"table": str(paths[-1])} | ({} if number else vars_of(settings()))
        config = settings_of(StreamFolder(tmp_path / "run"), given | {"table": str(paths[-1])})
        learn_run(config, tmp_path / "run", page=False)
    assert same(tensors(whole), tensors(tmp_path / "run"))
    assert learn_report(tmp_path / "run")["matrix"] == learn_report(whole)["matrix"], "old tables are opened again"
    paths[0].unlink()
    config = settings_of(StreamFolder(tmp_path / "run"), {"table": str(paths[1])})
    assert learn_run(config, tmp_path / "run", page=False)["matrix"][3][0] is None, "what is gone cannot be judged"


def vars_of(config: StreamConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_session_goes_on_to_the_same_bits(whole: Path, tmp_path: Path, number: int, step: int) -> None:
    folder = tmp_path / "run"
    if number:
        stream(folder, session=0)
    with pytest.raises(tiny.Killed):
        stream(folder, watcher=tiny.killer(step))
    stream(folder)
    assert same(tensors(whole), tensors(folder))
    assert not list(folder.rglob("checkpoint*"))


def test_killed_between_learning_and_scoring(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_: Any) -> None:
        raise tiny.Killed

    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        patch.setattr("absentia.streams.score_sessions", kill)
        stream(tmp_path / "run")
    stream(tmp_path / "run")
    assert learn_report(tmp_path / "run")["matrix"] == learn_report(whole)["matrix"]


def test_killed_before_the_scores_of_a_table_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_: Any) -> None:
        raise tiny.Killed

    folder = StreamFolder(tmp_path / "run")
    first, second = ([row for row in content() if row["session"] == number] for number in (0, 1))
    stream(folder.path, settings(), rows=first)
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        patch.setattr("absentia.streams.score_sessions", kill)
        stream(folder.path, settings(), rows=second)
    report = stream(folder.path, settings(), rows=second)
    assert folder.learned_sessions() == 2, "the same command goes on, it does not learn the same rows again"
    assert report["matrix"][1][1] is not None
    stream(folder.path, settings(), rows=second)
    assert folder.learned_sessions() == 3, "what was whole is one more session"


def test_the_next_session_needs_a_table(tmp_path: Path) -> None:
    folder = StreamFolder(tmp_path / "run")
    stream(folder.path, settings(), rows=[row for row in content() if row["session"] == 0])
    with pytest.raises(UserError, match="which table is the next session"):
        settings_of(folder, {})
    assert settings_of(folder, {"sessions": 2}).table == "tiny"


def test_later_sessions_touch_no_file_of_earlier_ones(tmp_path: Path) -> None:
    folder = StreamFolder(tmp_path / "run")
    stream(folder.path, session=0)
    before = files_of(folder.session(0).path)
    stream(folder.path)
    assert files_of(folder.session(0).path) == before


def test_rolled_back_and_learned_again(whole: Path, tmp_path: Path) -> None:
    folder = StreamFolder(tmp_path / "run")
    stream(folder.path)
    aside = folder.roll_back(0)
    assert aside is not None and sorted(p.name for p in aside.iterdir()) == ["1", "2"]
    assert same(tensors(folder.path), tensors(whole, 1))
    assert folder.roll_back(0) is None
    stream(folder.path)
    assert same(tensors(folder.path), tensors(whole))
    with pytest.raises(UserError, match="the sessions 0 to 2, not 3"):
        folder.roll_back(3)


def test_a_stream_is_a_run_that_answers(tmp_path: Path) -> None:
    stream(tmp_path / "run", settings(classes=list(CLASSES)))
    run = load_run(tmp_path / "run")
    assert run.fitted.codec.target.classes == ("ant", "bee", "cat")
    report = evaluate_run(run, tiny.table(content()))
    assert report["as_given"]["n"] > 0
    assert answer(run.method, run_rows(tmp_path)).probabilities.shape[1] == 3


def run_rows(folder: Path) -> Any:
    from absentia.learn.prepare import rows_of, survey

    run = load_run(folder / "run")
    table = open_table(tiny.table(content()))
    return rows_of(table, run.fitted, on_bad="error", presence=survey(table, run.fitted.schema).presence)


@pytest.mark.parametrize("blocks", [CLASSES, (["cat", "bee"], ["ant"])])
def test_classes_arrive_as_they_are_listed(tmp_path: Path, blocks: Sequence[list[str]]) -> None:
    report = stream(tmp_path / "run", settings(classes=list(blocks)))
    assert [sorted(line["classes"]) for line in report["sessions"]] == [sorted(block) for block in blocks]
    assert any("one class" in note for note in report["notes"])


def test_discovered_classes_are_shared_out(tmp_path: Path) -> None:
    report = stream(tmp_path / "sorted", settings(sessions=2))
    assert [line["classes"] for line in report["sessions"]] == [["ant", "bee"], ["cat"]]


def test_labels_and_numbers_stream_by_column(tmp_path: Path) -> None:
    for target in tiny.TARGETS[1:]:
        report = stream(tmp_path / target, settings(by="session", target=target))
        assert len(report["matrix"]) == 3
        assert report["higher_is_better"] == (target != tiny.TARGETS[2])
    with pytest.raises(UserError, match="say --by COLUMN"):
        stream(tmp_path / "no", settings(sessions=2, target=tiny.TARGETS[2]))


def test_a_class_that_comes_back_and_a_session_without_a_modality_are_said(tmp_path: Path) -> None:
    rows = [row | {"session": int(row["kind"] == "cat")} for row in content()]
    for row in rows[::5]:
        row["session"] = 1
    for row in rows:
        row |= {"wave": None} if row["session"] else {}
    notes = " ".join(stream(tmp_path / "run", settings(by="session"), rows=rows)["notes"])
    assert "Classes that come back in session 1: ant, bee" in notes
    assert "Session 1 has no training row with 'wave'" in notes
    assert "No training row of session 1 is complete" in notes


def test_a_table_without_a_modality_is_a_session_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "more.parquet"
    pq.write_table(tiny.table(content()).drop_columns(["wave"]), path)
    stream(tmp_path / "run", settings(), rows=[row for row in content() if row["session"] == 0])
    config = settings_of(StreamFolder(tmp_path / "run"), {"table": str(path)})
    report = learn_run(config, tmp_path / "run", page=False)
    assert any("no training row with 'wave'" in note for note in report["notes"])
    pq.write_table(tiny.table(content()).select(["id", "split", "kind"]), path)
    with pytest.raises(UserError, match="none of the stream's modalities"):
        learn_run(config, tmp_path / "run", page=False)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"by": "sesion"}, "no such column; did you mean 'session'"),
        ({"classes": [["ant", "bee"], ["bee"]]}, "listed for two sessions"),
        ({"classes": [["ant", "be"], ["cat"]]}, "did you mean 'bee'"),
        ({"sessions": 4}, "there are 3 classes"),
        ({"by": "session", "target": "tags=labels", "sessions": None}, None),
        ({"sessions": 2, "target": "tags=labels"}, "say --by COLUMN"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, wrong: dict[str, Any], words: str | None) -> None:
    if words is None:
        stream(tmp_path / "run", settings(**wrong))
        return
    with pytest.raises(UserError, match=words):
        stream(tmp_path / "run", settings(**wrong))


def test_sessions_come_in_order_and_settings_stay(whole: Path) -> None:
    with pytest.raises(UserError, match="learned already; roll back"):
        stream(whole, session=1)
    with pytest.raises(UserError, match="is not next"):
        stream(whole, session=4)
    with pytest.raises(UserError, match="begun with another seed"):
        stream(whole, replace(settings(by="session"), seed=3))


def test_damaged_sessions_are_refused(tmp_path: Path) -> None:
    stream(tmp_path / "run")
    folder = StreamFolder(tmp_path / "run")
    first, second = (folder.session(k).learned for k in (0, 1))
    kept = second.read_bytes()
    second.write_bytes(first.read_bytes())
    with pytest.raises(UserError, match="belongs to another stream"):
        load_state(folder)
    second.write_bytes(kept[:-5])
    with pytest.raises(UserError, match="is broken"):
        load_state(folder)
    second.unlink()
    with pytest.raises(UserError, match="does not exist"):
        load_state(folder)

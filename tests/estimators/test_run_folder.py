"""Saving, loading, the folders in between, and what a training leaves behind in somebody else's program."""

from __future__ import annotations

import gc
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from sklearn.base import clone
from tests.estimators.movies import MODALITIES, QUICK, movies

from absentia import MultimodalClassifier, MultimodalLabeler, MultimodalRegressor, UserError
from absentia.config import Model, RunConfig, Training
from absentia.jobs import evaluate_run, train_run
from absentia.learn.run import load_run
from absentia.predict import predict_run
from absentia.pretrain import pretrain_run

FAST = QUICK | {"epochs": 1}
REST = movies(30, seed=9)


def test_a_round_trip_keeps_every_bit(tmp_path: Path, fitted: MultimodalClassifier) -> None:
    fitted.save(tmp_path / "run")
    again = MultimodalClassifier.load(tmp_path / "run")
    np.testing.assert_array_equal(again.predict_proba(REST), fitted.predict_proba(REST))
    pd.testing.assert_frame_equal(again.robustness(REST).table, fitted.robustness(REST).table)
    assert again.get_params() == fitted.get_params()
    assert again.report_ == fitted.report_
    again.save(tmp_path / "another")
    names = {path.name for path in (tmp_path / "another").iterdir()}
    assert {"config.yaml", "schema.json", "weights.safetensors", "report.html", "report.json", "metrics.jsonl"} <= names
    assert not [name for name in names if "checkpoint" in name or name.startswith(".")]


@pytest.mark.parametrize("column", ["code", "genre"])
def test_classes_keep_their_type(tmp_path: Path, column: str) -> None:
    model = MultimodalClassifier(MODALITIES, **FAST).fit(movies(60), column)
    model.save(tmp_path / "run")
    again = MultimodalClassifier.load(tmp_path / "run")
    assert again.classes_.dtype == model.classes_.dtype and again.predict(REST).tolist() == model.predict(REST).tolist()


def test_a_pretrained_backbone_under_an_estimator(tmp_path: Path) -> None:
    modality = {name: kind.describe() for name, kind in MODALITIES.items()}
    settings = RunConfig(table="films", modality=modality, model=Model(width=24, depth=1), training=Training(epochs=1))
    pretrain_run(settings, tmp_path / "backbone", source=movies(80, seed=2))
    parameters = FAST | {"backbone": str(tmp_path / "backbone"), "freeze": True}
    model = MultimodalClassifier(MODALITIES, **parameters).fit(movies(60), "genre")
    assert model.run_.method.backbone.width == 24
    model.save(tmp_path / "run")
    again = MultimodalClassifier.load(tmp_path / "run")
    assert again.get_params() == model.get_params()
    np.testing.assert_array_equal(again.predict_proba(REST), model.predict_proba(REST))


def test_every_estimator_loads_its_own_kind(tmp_path: Path) -> None:
    table = movies(60)
    for kind, column in ((MultimodalRegressor, "price"), (MultimodalLabeler, "tags")):
        extra = {"log": True} if kind is MultimodalRegressor else {}
        model = kind(MODALITIES, **FAST, **extra).fit(table, column)
        model.save(tmp_path / column)
        again = kind.load(tmp_path / column)
        np.testing.assert_array_equal(again.predict(REST), model.predict(REST))
        assert again.get_params() == model.get_params()
        with pytest.raises(UserError, match=f"load it with {kind.__name__}.load"):
            MultimodalClassifier.load(tmp_path / column)


def test_the_command_line_reads_what_was_saved(tmp_path: Path, fitted: MultimodalClassifier) -> None:
    fitted.save(tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert evaluate_run(run, REST)["patterns"] == fitted.robustness(REST).report["patterns"]
    predict_run(run, REST, tmp_path / "answers.csv")
    assert pd.read_csv(tmp_path / "answers.csv")["prediction"].tolist() == fitted.predict(REST).tolist()


def by_command_line(out: Path, **given: Any) -> None:
    settings: dict[str, Any] = {
        "modality": {"plot": "text", "facts": "tabular@year,runtime"},
        "target": "code",
        "reference": False,
        "model": Model(width=16, depth=1, heads=2),
        "training": Training(epochs=1, batch=32, lr=5e-3),
    }
    train_run(RunConfig(table="films", **settings | given), out, source=movies(60))


@pytest.mark.parametrize("inferred", [False, True])
def test_loads_what_the_command_line_trained(tmp_path: Path, inferred: bool) -> None:
    by_command_line(tmp_path / "run", **({"modality": {}, "target": "genre"} if inferred else {}))
    model = MultimodalClassifier.load(tmp_path / "run")
    assert model.score(REST) == np.mean(model.predict(REST) == REST["genre" if inferred else "code"].astype(str))
    assert (model.width, model.epochs) == (16, 1)
    assert "plot" in model.modalities
    assert clone(model).fit(movies(60), "genre").score(REST) > 0


def test_trains_as_the_command_line_does(tmp_path: Path) -> None:
    table = movies(60).assign(split=["train"] * 40 + ["val"] * 10 + ["test"] * 10)
    config = RunConfig(
        table="films",
        modality={name: kind.describe() for name, kind in MODALITIES.items()},
        target="genre",
        reference=False,
        model=Model(width=16, depth=1, heads=2),
        training=Training(epochs=1, batch=32, lr=5e-3),
    )
    report = train_run(config, tmp_path / "run", source=table)
    model = MultimodalClassifier(MODALITIES, **FAST).fit(table, "genre")
    assert model.report_["patterns"] == report["patterns"]
    other = MultimodalClassifier.load(tmp_path / "run")
    np.testing.assert_array_equal(model.predict_proba(REST), other.predict_proba(REST))


def test_the_table_is_named_only_where_its_rows_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "films.parquet"
    films = movies(60)
    names = []
    for table in (films, films.assign(split=["train"] * 50 + ["val"] * 10)):
        table.to_parquet(path)
        names.append(MultimodalClassifier(MODALITIES, **FAST).fit(path, "genre").report_["config"]["table"])
    assert names == [f"{path} (from Python)", str(path)]


def test_a_run_is_not_overwritten_unasked(tmp_path: Path, fitted: MultimodalClassifier) -> None:
    other = clone(fitted).set_params(epochs=1, seed=5, reference=True).fit(movies(60), "genre")
    other.save(tmp_path / "run")
    with pytest.raises(UserError, match=r"already holds a run.*overwrite=True"):
        fitted.save(tmp_path / "run")
    fitted.save(tmp_path / "run", overwrite=True)
    again = MultimodalClassifier.load(tmp_path / "run")
    np.testing.assert_array_equal(again.predict_proba(REST), fitted.predict_proba(REST))
    assert again.run_.reference is None
    again.save(tmp_path / "run")  # onto itself


def test_a_file_of_the_user_stays(tmp_path: Path, fitted: MultimodalClassifier) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    fitted.save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(UserError, match="is a file"):
        fitted.save(tmp_path / "notes.txt")


def test_what_cannot_be_loaded(tmp_path: Path, fitted: MultimodalClassifier) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        MultimodalClassifier.load(tmp_path / "nowhere")
    fitted.save(tmp_path / "run")
    schema = tmp_path / "run" / "schema.json"
    schema.write_text(json.dumps(json.loads(schema.read_text()) | {"seed": 77}))
    with pytest.raises(UserError, match="belongs to another run"):
        MultimodalClassifier.load(tmp_path / "run")
    fitted.save(tmp_path / "other")
    (tmp_path / "other" / "estimator.json").write_text('{"classes": "i"}')
    with pytest.raises(UserError, match="are no numbers"):
        MultimodalClassifier.load(tmp_path / "other")


def test_a_loaded_model_says_when_its_folder_is_gone(tmp_path: Path, fitted: MultimodalClassifier) -> None:
    fitted.save(tmp_path / "run")
    again = MultimodalClassifier.load(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert again.predict(REST).shape == (30,)
    with pytest.raises(UserError, match="is not there any more"):
        again.save(tmp_path / "another")


def test_nothing_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = MultimodalClassifier(MODALITIES, **FAST).fit(movies(60), "genre")
    assert len(list(tmp_path.iterdir())) == 1
    model.fit(movies(60), "genre")
    gc.collect()
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(UserError):
        model.fit(movies(60), "genre", validation=movies(9).assign(genre="opera"))
    del model
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_training_is_a_guest() -> None:
    AcceleratorState._reset_state()
    mine = Accelerator(cpu=True)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    table = movies(60)
    for precision in ("bf16", "no"):
        model = MultimodalClassifier(MODALITIES, **FAST, precision=precision).fit(table, "genre")
        assert model.predict(REST).shape == (30,)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    assert mine.mixed_precision == "no" and mine.state.initialized
    AcceleratorState._reset_state()


def test_the_same_seed_gives_the_same_model() -> None:
    table = movies(60)
    one, two, other = (MultimodalClassifier(MODALITIES, **FAST, seed=s).fit(table, "genre") for s in (1, 1, 2))
    np.testing.assert_array_equal(one.predict_proba(REST), two.predict_proba(REST))
    assert (one.predict_proba(REST) != other.predict_proba(REST)).any()


def test_progress_is_shown_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    MultimodalClassifier(MODALITIES, **FAST).fit(movies(60), "genre")
    assert capsys.readouterr().out == ""
    MultimodalClassifier(MODALITIES, **FAST, progress=True).fit(movies(60), "genre")
    assert "training dropout" in capsys.readouterr().out

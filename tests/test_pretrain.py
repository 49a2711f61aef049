"""`absentia pretrain`: from a table to a backbone that says what it saw; killed or not, the same bits."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from tests import checkpoints, tiny
from tests.poison import count_opened

from absentia.cli import main
from absentia.config import Model, RunConfig
from absentia.data.catalog import declaration, load
from absentia.errors import UserError
from absentia.jobs import train_run
from absentia.learn.backbones import open_backbone
from absentia.learn.run import load_run
from absentia.pretrain import pretrain_run

FILES = ["config.json", "config.yaml", "metrics.jsonl", "model.safetensors"]


def settings(**more: Any) -> RunConfig:
    training = replace(tiny.QUICK, **more.pop("training", {}))
    given = {"table": "tiny", "modality": tiny.MODALITY, "model": tiny.SMALL, "training": training}
    return RunConfig(**(given | more))


def pretrained(out: Path, content: tiny.Rows | None = None, **more: Any) -> dict[str, Any]:
    given = {key: more.pop(key) for key in ("resume", "watcher") if key in more}
    source = tiny.table(tiny.rows() if content is None else content)
    return pretrain_run(settings(**more), out, source=source, **given)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain") / "whole"
    pretrained(folder)
    return folder


def test_the_folder_says_what_the_backbone_saw(whole: Path) -> None:
    assert sorted(path.name for path in whole.iterdir()) == FILES
    found = open_backbone(str(whole))
    saw = found.saw
    ids = [f"row-{i}" for split in ("train", "val") for i, row in enumerate(tiny.rows()) if row["split"] == split]
    assert saw["table"] == "tiny" and saw["seed"] == 0 and saw["target"] is None
    assert saw["rows"] == {split: sum(r["split"] == split for r in tiny.rows()) for split in ("train", "val")}
    assert saw["ids_sha256"] == hashlib.sha256(repr(ids).encode()).hexdigest()
    assert sum(saw["presence"].values()) == saw["rows"]["train"] and saw["presence"]["nothing"] >= 1
    assert saw["objectives"]["share"] == 0.3 and saw["training"]["epochs"] == 2
    assert 0 < saw["steps"] <= saw["steps_made"] and "matching" in saw["validation"]
    assert saw["versions"]["torch"] == torch.__version__
    assert found.sizes["width"] == 16 and list(found.kinds) == tiny.NAMES


def test_the_same_seed_gives_the_same_bits_and_another_does_not(whole: Path, tmp_path: Path) -> None:
    for name, seed in (("same", 0), ("other", 1)):
        torch.manual_seed(99)
        pretrained(tmp_path / name, seed=seed)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "same" / file).read_bytes() == (whole / file).read_bytes(), file
        assert (tmp_path / "other" / file).read_bytes() != (whole / file).read_bytes(), file


@pytest.mark.parametrize("step", [1, 3, 6])
@pytest.mark.parametrize("often", [True, False])
def test_a_killed_pretraining_ends_in_the_same_bits(whole: Path, tmp_path: Path, step: int, often: bool) -> None:
    training = {"checkpoint_seconds": 0.0 if often else 1e6}
    with pytest.raises(tiny.Killed):
        pretrained(tmp_path / "run", watcher=tiny.killer(step), training=training)
    assert not (tmp_path / "run" / "config.json").exists()
    with pytest.raises(UserError, match="has its pretraining ended"):
        open_backbone(str(tmp_path / "run"))
    pretrained(tmp_path / "run", resume=True, training=training)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == FILES
    assert tiny.metrics(tmp_path / "run") == tiny.metrics(whole)
    one, other = (tiny.tensors_of(folder / "model.safetensors") for folder in (tmp_path / "run", whole))
    assert all(torch.equal(one[key], other[key]) for key in one | other)


def test_a_finished_one_is_not_done_again(whole: Path) -> None:
    before = (whole / "model.safetensors").stat().st_mtime_ns
    heard = tiny.Heard()
    again = pretrained(whole, resume=True, watcher=heard)
    assert again == json.loads((whole / "config.json").read_text()) and not heard.losses
    assert (whole / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="say --resume to go on"):
        pretrained(whole)
    with pytest.raises(UserError, match="another seed"):
        pretrained(whole, resume=True, seed=5)


def test_test_rows_are_never_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = tiny.rows()
    for row in content:
        if row["split"] == "test":
            row |= {"wave": [float("nan")], "photo": {"bytes": b"no picture", "path": None}}
    opened = count_opened(monkeypatch)
    pretrained(tmp_path / "run", content)
    there = [row for row in content if row["split"] != "test"]
    assert opened["wave"] == sum(row["wave"] is not None for row in there)


def test_rows_without_split_and_target_are_divided_by_a_hash(tmp_path: Path) -> None:
    drop = ("split", "kind", "tags", "weight")
    content = [{key: value for key, value in row.items() if key not in drop} for row in tiny.rows()]
    made = pretrained(tmp_path / "run", content)
    rows = made["saw"]["rows"]
    assert rows["val"] > 3 and 50 < rows["train"] < 80 and rows["train"] + rows["val"] < 90


def test_a_target_and_a_plan_are_said(tmp_path: Path) -> None:
    content = tiny.rows()
    plan = tiny.plan_of(content, {i: ["wave", "photo"] for i in range(0, 90, 2)})
    plan.save(tmp_path / "plan.parquet")
    made = pretrained(tmp_path / "run", target="kind", plan=str(tmp_path / "plan.parquet"))
    saw = made["saw"]
    assert saw["target"] == "kind" and saw["plan_sha256"] == plan.sha256 and "supervised" in saw["validation"]
    assert sum(n for pattern, n in saw["presence"].items() if "wave" in pattern) < 30


@pytest.mark.parametrize("more", [{"precision": "bf16"}, {"accumulate": 2}])
def test_other_ways_of_training(tmp_path: Path, more: dict[str, Any]) -> None:
    pretrained(tmp_path / "run", training=more)
    assert all(t.isfinite().all() for t in tiny.tensors_of(tmp_path / "run" / "model.safetensors").values())


def test_what_it_makes_is_what_train_takes_up(whole: Path, tmp_path: Path) -> None:
    model = replace(tiny.SMALL, backbone=str(whole), freeze=True)
    train_run(tiny.config("dropout", model=model), tmp_path / "run", source=tiny.table(tiny.rows()), page=False)
    run = load_run(tmp_path / "run")
    assert run.fitted.backbone.saw == json.loads((whole / "config.json").read_text())["saw"]
    stored = tiny.tensors_of(whole / "model.safetensors")
    assert all(torch.equal(t, stored[key]) for key, t in run.method.backbone.state_dict().items())


def test_frozen_encoders_are_learned_from(tmp_path: Path) -> None:
    encoder = str(checkpoints.vit(tmp_path / "vit"))
    modality = {"photo": {"kind": "image", "encoder": encoder}, "facts": "tabular@height,colour"}
    made = pretrained(tmp_path / "run", modality=modality, training={"epochs": 1})
    assert "masked photo" in made["saw"]["validation"] and made["encoders"].keys() == {"photo"}
    assert open_backbone(str(tmp_path / "run")).kinds["photo"].encoder == encoder


def test_a_tuned_encoder_alone_has_no_questions(tmp_path: Path) -> None:
    encoder = str(checkpoints.vit(tmp_path / "vit"))
    tuned = {"kind": "image", "encoder": encoder, "tune": True}
    with pytest.raises(UserError, match="nothing to learn from"):
        pretrained(tmp_path / "run", modality={"photo": tuned})
    made = pretrained(tmp_path / "two", modality={"photo": tuned, "words": "text"}, training={"epochs": 0.5})
    assert made["saw"]["validation"].keys() == {"masked words", "gist words", "matching"}


def test_it_starts_from_scratch(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"leave model\.backbone away"):
        pretrained(tmp_path / "run", model=Model(backbone=str(whole)))


def test_known_data_sets_declare_themselves() -> None:
    known = declaration("glyphs-outside")
    assert known is not None
    assert [flag.split("=")[0] for flag in known["modality"]] == ["image", "text", "properties"]
    assert "target" not in known and known["split"] == "split"
    outside, inside = set(load("glyphs-outside")["id"]), set(load("glyphs")["id"])
    assert outside and not outside & inside


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "things.parquet"
    pq.write_table(tiny.table(tiny.rows()), table)
    declared = ["--modality", "words=text", "--modality", "facts=tabular@height,colour"]
    small = ["--training.epochs", "2", "--training.batch", "16", "--model.width", "16", "--model.depth", "1"]
    out = str(tmp_path / "backbone")
    assert main(["pretrain", str(table), *declared, *small, "--options.share", "0.4", "--out", out]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "A backbone of width 16 and depth 1 saw" in said and "validation loss" in said and "seed 0" in said
    assert f"--model.backbone {out}" in said
    assert main(["pretrain", "--resume", "--out", out]) == 0
    run = ["--target", "kind", "--model.backbone", out, "--model.freeze", "true", "--training.epochs", "1"]
    capsys.readouterr()
    assert main(["train", str(table), *declared, *run, "--out", str(tmp_path / "run")]) == 0
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    for words, sentence in (
        ([str(table), "--out", str(tmp_path / "x"), "--options.shore", "1"], "did you mean 'share'"),
        ([str(table)], "out"),
        (["glyphs-outsid", "--out", str(tmp_path / "x")], "glyphs-outsid"),
    ):
        assert main(["pretrain", *words]) == 2
        assert sentence in capsys.readouterr().err


def test_the_first_stage_of_the_universal_model_leaves_a_backbone_for_any_method(tmp_path: Path) -> None:
    pretrained(tmp_path / "imagined", method="universal")
    saw = open_backbone(str(tmp_path / "imagined")).saw
    assert saw["objectives"]["distribution"] == "moments"
    assert {"masked", "gist", "summary", "distribution"} == set(saw["validation"])
    model = Model(backbone=str(tmp_path / "imagined"), freeze=True)
    for method in ("rebq", "modulation", "universal"):
        config = tiny.config(method, names=tiny.NAMES, model=model, reference=False, training={"epochs": 0.5})
        report = train_run(config, tmp_path / method, source=tiny.table(tiny.rows()), page=False)
        assert report["method"] == method and len(report["patterns"]) == 15
    for step in (2, 5):
        with pytest.raises(tiny.Killed):
            pretrained(tmp_path / f"killed{step}", method="universal", watcher=tiny.killer(step))
        pretrained(tmp_path / f"killed{step}", method="universal", resume=True)
        for file in ("config.json", "model.safetensors"):
            whole = (tmp_path / "imagined" / file).read_bytes()
            assert (tmp_path / f"killed{step}" / file).read_bytes() == whole, file


def test_an_unknown_pretraining_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'universal'"):
        pretrained(tmp_path / "run", method="universl")

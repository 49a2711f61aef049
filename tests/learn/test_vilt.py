"""A ViLT checkpoint under a table: its tokenizer, its image processor, its weights; any method on top."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image as Pillow
from tests import checkpoints, tiny
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer

from absentia.cli import main
from absentia.config import Model, RunConfig
from absentia.data.schema import Schema, modality_from, target_from_flag
from absentia.data.table import open_table
from absentia.errors import UserError
from absentia.jobs import evaluate_run, train_run
from absentia.learn.backbones import open_backbone
from absentia.learn.prepare import Prepared, prepare
from absentia.learn.run import load_run
from absentia.methods.base import Method

MODALITY = {"title": "text", "poster": "image"}
SHAPES = [(40, 60), (32, 32), (70, 33), (33, 90)]
SAID = ["a cat sleeps on the mats .", "dogs", "", "the dog " + "the cat sleeps " * 9]


def rows(count: int = 40) -> tiny.Rows:
    """Two classes that both modalities tell; some cells are absent."""
    draw = np.random.default_rng(0)
    made = []
    for i in range(count):
        buffer = io.BytesIO()
        shade = draw.integers(100 * (i % 2), 100 * (i % 2) + 80, (*SHAPES[i % 4], 3), dtype=np.uint8)
        Pillow.fromarray(shade).save(buffer, "PNG")
        row = {
            "id": f"r{i}",
            "split": ("train", "train", "val", "train", "test")[i % 5],
            "label": ("cat", "dog")[i % 2],
        }
        there = i % 7 != 1, i % 7 != 4
        made.append(
            row | {"poster": buffer.getvalue() if there[0] else None, "title": SAID[i % 4] if there[1] else None}
        )
    return made


@pytest.fixture(scope="module")
def vilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.vilt(tmp_path_factory.mktemp("vilt"))


def config(vilt: Path, *, freeze: bool, method: str = "dropout", **more: Any) -> RunConfig:
    model = Model(backbone=str(vilt), freeze=freeze)
    training = replace(tiny.QUICK, batch=8)
    settings = {"table": "posters", "modality": MODALITY, "target": "label", "model": model, "training": training}
    return RunConfig(method=method, **(settings | more))


def data_of(vilt: Path, content: tiny.Rows) -> Prepared:
    modalities = {name: modality_from(name, kind) for name, kind in MODALITY.items()}
    schema = Schema(modalities=modalities, target=target_from_flag("label"), id="id", split="split")
    table = open_table(pa.Table.from_pylist(content))
    return prepare(table, schema, plan=None, on_bad="error", backbone=open_backbone(str(vilt)))


def method_of(vilt: Path, data: Prepared, name: str = "dropout", *, freeze: bool = False) -> Method:
    return tiny.method_of(name, data, stir=0.05, model=Model(backbone=str(vilt), freeze=freeze, dropout=0.0))


def test_cells_become_what_its_own_processors_make_of_them(vilt: Path) -> None:
    data = data_of(vilt, rows())
    batch = tiny.everything(data)
    train = [row for row in rows() if row["split"] == "train"]
    texts = [row["title"] for row in train if row["title"] is not None]
    theirs = AutoTokenizer.from_pretrained(vilt)(texts, padding=True, truncation=True, max_length=16)
    for key, values in theirs.items():
        assert torch.equal(batch.inputs["title"][key], torch.tensor(values)), key
    assert int(batch.inputs["title"]["attention_mask"].sum(1).max()) == 16, "cut at the places there are"
    pictures = [Pillow.open(io.BytesIO(row["poster"])) for row in train if row["poster"] is not None]
    made = AutoImageProcessor.from_pretrained(vilt, backend="pil")(pictures, return_tensors="pt")
    for key in ("pixel_values", "pixel_mask"):
        torch.testing.assert_close(batch.inputs["poster"][key], made[key], check_dtype=False)


@pytest.mark.parametrize("name", ["dropout", "ignore"])
def test_an_answer_does_not_depend_on_who_shares_its_batch(vilt: Path, name: str) -> None:
    data = data_of(vilt, rows())
    batch, method = tiny.everything(data), method_of(vilt, data, name)
    whole = method(batch).scores
    for row in range(0, len(batch), 2):
        alone = method(data.rows["train"].batch(np.asarray([row]))).scores
        torch.testing.assert_close(alone[0], whole[row], rtol=1e-5, atol=1e-5)


def test_its_weights_are_under_the_tables_names(vilt: Path) -> None:
    data = data_of(vilt, rows())
    backbone = method_of(vilt, data, freeze=True).backbone
    assert backbone.names == ["title", "poster"] and backbone.width == 32
    stored = tiny.tensors_of(vilt / "model.safetensors")
    words = backbone.embedder("title").words.weight
    assert torch.equal(words, stored["embeddings.text_embeddings.word_embeddings.weight"])
    assert data.fitted.backbone.sizes == {"width": 32, "depth": 3, "heads": 4, "mlp": 48}


@pytest.mark.parametrize("freeze", [False, True])
def test_a_run_on_it_is_trained_saved_and_loaded(vilt: Path, tmp_path: Path, freeze: bool) -> None:
    table = pa.Table.from_pylist(rows())
    report = train_run(config(vilt, freeze=freeze), tmp_path / "run", source=table, page=False)
    learned = tiny.tensors_of(tmp_path / "run" / "weights.safetensors")
    assert any("transformer" in key for key in learned) != freeze
    run = load_run(tmp_path / "run")
    assert evaluate_run(run, table, part="report")["patterns"] == report["patterns"]


def test_what_is_hidden_is_never_opened(vilt: Path, tmp_path: Path) -> None:
    clean, names = rows(), list(MODALITY)
    hidden = {i: [names[i % 2]] for i in range(0, 40, 3)}
    poisoned = [dict(row) for row in clean]
    for i, gone in hidden.items():
        for name in gone:
            if poisoned[i][name] is not None:
                poisoned[i][name] = b"\xff\x00 no picture" if name == "poster" else "\ud800"
    poisoned = [row | {"title": None if row["title"] == "\ud800" else row["title"]} for row in poisoned]
    plan, learned = tiny.plan_of(clean, hidden, names), []
    for number, content in enumerate((clean, poisoned)):
        settings = config(vilt, freeze=True, reference=False)
        train_run(settings, tmp_path / str(number), source=pa.Table.from_pylist(content), plan=plan, page=False)
        learned.append(tiny.tensors_of(tmp_path / str(number) / "weights.safetensors"))
    assert_same(*learned)


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("names", [["title"], ["poster"], ["poster", "title"]])
def test_one_of_the_two_is_enough(vilt: Path, names: list[str]) -> None:
    schema = Schema(modalities={name: modality_from(name, MODALITY[name]) for name in names})
    found = open_backbone(str(vilt))
    built = found.build(found.adopt(schema), freeze=False, dropout=0.0)
    assert built.names == names


@pytest.mark.parametrize(
    ("modalities", "sentence"),
    [
        ({"title": "text", "plot": "text"}, r"takes one modality of each kind \(text, image\)"),
        ({"title": "text", "facts": "tabular@year"}, "'facts' is of kind 'tabular'; backbone .* takes one text and"),
        ({"title": "text:some/encoder"}, "encoder 'some/encoder', but backbone"),
        ({"poster": {"kind": "image", "size": 64}}, "'poster': size 64, but backbone"),
    ],
)
def test_other_schemas_are_refused(vilt: Path, modalities: dict[str, Any], sentence: str) -> None:
    schema = Schema(modalities={name: modality_from(name, given) for name, given in modalities.items()})
    with pytest.raises(UserError, match=sentence):
        open_backbone(str(vilt)).adopt(schema)


def test_a_checkpoint_without_its_processors_is_refused(vilt: Path, tmp_path: Path) -> None:
    for name in ("preprocessor_config.json", "tokenizer.json"):
        mine = Path(shutil.copytree(vilt, tmp_path / name))
        (mine / name).unlink()
        (mine / "vocab.txt").unlink()
        with pytest.raises(UserError, match=r"cannot be loaded|has no words"):
            open_backbone(str(mine))


def test_another_tokenizer_is_another_backbone(vilt: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(vilt, tmp_path / "mine"))
    content = json.loads((mine / "tokenizer.json").read_text(encoding="utf-8"))
    content["normalizer"]["lowercase"] = False
    (mine / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert open_backbone(str(mine)).sha256 != open_backbone(str(vilt)).sha256


def test_from_the_command_line(vilt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow.parquet as pq

    table = tmp_path / "posters.parquet"
    pq.write_table(pa.Table.from_pylist(rows()), table)
    declared = ["--modality", "title=text", "--modality", "poster=image", "--target", "label"]
    asked = ["--model.backbone", str(vilt), "--model.freeze", "true", "--reference", "false", "--training.epochs", "1"]
    assert main(["train", str(table), *declared, *asked, "--out", str(tmp_path / "run")]) == 0
    assert main(["predict", str(tmp_path / "run"), str(table), "--out", str(tmp_path / "answers.csv")]) == 0
    capsys.readouterr()
    changed = ["--model.backbone", str(tmp_path / "run"), "--out", str(tmp_path / "other")]
    assert main(["train", str(table), *declared, *changed]) == 2
    assert "has no config.json" in capsys.readouterr().err

"""Pretrained backbones: written, read strictly, taken over by any method, and refused when they have changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests import checkpoints, tiny
from tests.backbones import SAW, prepared_with, with_backbone, write_backbone

from absentia.data.kinds import Image, Text
from absentia.data.schema import Schema, modality_from
from absentia.errors import UserError
from absentia.evaluate.patterns import answer
from absentia.jobs import evaluate_run, train_run
from absentia.learn.backbones import open_backbone
from absentia.learn.build import build_method, fitted_from, fitted_to, patterns_seen
from absentia.learn.run import load_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("backbone") / "b")


@pytest.fixture
def mine(folder: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "mine"))


def edit_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / "config.json").read_text())
    change(content)
    (folder / "config.json").write_text(json.dumps(content))


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    save_file(change(load_file(path)), path, metadata=about)


def test_what_is_written_is_read_bit_for_bit(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    found, stored = open_backbone(str(folder)), tiny.tensors_of(folder / "model.safetensors")
    state = found.backbone.state_dict()
    assert state.keys() == stored.keys() and all(torch.equal(state[key], stored[key]) for key in stored)
    assert found.sizes == {"width": 24, "depth": 2, "heads": 3, "mlp": 48} and found.saw == SAW
    assert list(found.kinds) == tiny.NAMES
    assert found.sha256 == open_backbone(str(folder)).sha256


def test_another_seed_is_another_backbone(folder: Path, tmp_path: Path) -> None:
    assert open_backbone(str(write_backbone(tmp_path / "b", seed=4))).sha256 != open_backbone(str(folder)).sha256
    again = write_backbone(tmp_path / "c")
    for name in ("config.json", "model.safetensors"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_opening_draws_nothing(folder: Path) -> None:
    before = torch.get_rng_state()
    open_backbone(str(folder))
    assert torch.equal(torch.get_rng_state(), before)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json: has its pretraining ended"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors does not exist"),
    "half a config": (lambda f: (f / "config.json").write_text('{"format": '), "config.json is not readable JSON"),
    "no text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json is not readable JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "config.json holds no JSON object"),
    "another format": (lambda f: edit_config(f, lambda c: c.update(format="absentia-backbone-9")), "absentia-backbone"),
    "no format": (lambda f: edit_config(f, lambda c: c.pop("format")), "absentia pretrain"),
    "no decoders": (lambda f: edit_config(f, lambda c: c.pop("decoders")), "config.json has no decoders"),
    "what it saw changed": (lambda f: edit_config(f, lambda c: c["saw"].update(steps=9)), "belongs to another config"),
    "other sizes": (lambda f: edit_config(f, lambda c: c["model"].update(width=12)), "belongs to another config"),
    "a tensor less": (lambda f: edit_tensors(f, lambda t: dict(list(t.items())[1:])), "1 tensors are missing, extra"),
    "a tensor more": (lambda f: edit_tensors(f, lambda t: t | {"more": torch.zeros(1)}), "first 'more'"),
    "another shape": (
        lambda f: edit_tensors(f, lambda t: t | {"transformer.norm.bias": torch.zeros(23)}),
        "first 'transformer.norm.bias'",
    ),
    "another type": (
        lambda f: edit_tensors(f, lambda t: t | {"transformer.norm.bias": torch.zeros(24).double()}),
        "first 'transformer.norm.bias'",
    ),
    "cut weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-50]),
        "model.safetensors is broken",
    ),
    "weights of something else": (
        lambda f: save_file({"x": torch.zeros(1)}, f / "model.safetensors"),
        "was not written by this version",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_refused_with_a_sentence(damage: str, mine: Path) -> None:
    break_it, sentence = DAMAGE[damage]
    break_it(mine)
    with pytest.raises(UserError, match=sentence):
        open_backbone(str(mine))


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a folder nor to be had from the hub"):
        open_backbone(str(tmp_path / "nowhere" / "at" / "all"))


@pytest.mark.parametrize(
    ("modalities", "sentence"),
    [
        ({"foto": "image@photo"}, "does not know a modality 'foto'; did you mean 'photo'"),
        ({"words": "image@photo"}, "'words' is of kind 'text' in backbone .* not 'image'"),
        ({"facts": "tabular@height"}, "has the columns height, but backbone .* knows it by height, colour"),
        ({"words": {"kind": "text", "max_length": 5}}, "'words': max_length 5, but backbone .* has 64"),
        ({"words": "text:some/encoder"}, "'words': encoder 'some/encoder', but backbone .* has None"),
    ],
)
def test_other_modalities_are_refused(folder: Path, modalities: dict[str, Any], sentence: str) -> None:
    schema = Schema(modalities={name: modality_from(name, given) for name, given in modalities.items()})
    with pytest.raises(UserError, match=sentence):
        open_backbone(str(folder)).adopt(schema)


def test_columns_may_have_other_names_and_an_option_that_is_the_backbones(folder: Path) -> None:
    kinds = {"words": Text(columns=("title",), max_length=64), "facts": modality_from("facts", "tabular@colour,height")}
    adopted = open_backbone(str(folder)).adopt(Schema(modalities=kinds))
    assert adopted.columns_of("words") == ("title",) and adopted.columns_of("facts") == ("colour", "height")


@pytest.mark.parametrize("names", [tiny.NAMES, ["wave", "photo"], ["facts"]])
def test_a_table_may_have_fewer_modalities_in_any_order(folder: Path, names: list[str]) -> None:
    data = prepared_with(folder, names)
    method = tiny.method_of("dropout", data, stir=0, model=with_backbone(folder))
    assert method.backbone.names == names and method.backbone.width == 24
    stored = tiny.tensors_of(folder / "model.safetensors")
    mine = {k: t for k, t in method.backbone.state_dict().items()}
    assert all(torch.equal(t, stored[key]) for key, t in mine.items())
    known = open_backbone(str(folder)).decoders
    assert {n: d.state() for n, d in data.fitted.decoders.items()} == {n: known[n].state() for n in names}


def test_copies_learn_apart_and_frozen_ones_share_their_weights(folder: Path) -> None:
    data = prepared_with(folder)
    seen = patterns_seen(data.rows["train"].presence)
    free = build_method("dedicated", data.fitted, with_backbone(folder), seed=0, seen=seen)
    places = {p.data_ptr() for b in free.backbones for p in b.parameters()}
    assert len(places) == len(seen) * len(list(free.backbones[0].parameters()))
    assert not places & {p.data_ptr() for p in data.fitted.backbone.backbone.parameters()}
    frozen = build_method("dedicated", data.fitted, with_backbone(folder, freeze=True), seed=0, seen=seen)
    places = {p.data_ptr() for b in frozen.backbones for p in b.parameters()}
    assert places == {p.data_ptr() for p in data.fitted.backbone.backbone.parameters()}
    assert not any(key.startswith("backbones") for key in frozen.learned())


def test_a_frozen_backbone_drops_nothing_in_training(folder: Path) -> None:
    data = prepared_with(folder)
    batch = tiny.everything(data)
    method = tiny.method_of("dropout", data, model=replace(with_backbone(folder, freeze=True), dropout=0.5)).train()
    one, other = (method.backbone(batch).together["photo"] for _ in range(2))
    assert torch.equal(one, other)
    learning = tiny.method_of("dropout", data, model=replace(with_backbone(folder), dropout=0.5)).train()
    assert not torch.equal(*(learning.backbone(batch).together["photo"] for _ in range(2)))


def test_rows_and_model_must_speak_of_the_same_backbone(folder: Path) -> None:
    with pytest.raises(ValueError, match="prepared for another backbone"):
        tiny.method_of("dropout", tiny.prepared(), model=with_backbone(folder))
    with pytest.raises(ValueError, match="prepared for another backbone"):
        tiny.method_of("dropout", prepared_with(folder))


def trained(folder: Path, out: Path, *, freeze: bool, method: str = "dropout") -> dict[str, Any]:
    settings = tiny.config(method, model=with_backbone(folder, freeze=freeze))
    return train_run(settings, out, source=tiny.table(tiny.rows()), page=False)


@pytest.mark.parametrize("method", ["dropout", "ignore", "dedicated"])
@pytest.mark.parametrize("freeze", [False, True])
def test_a_run_is_saved_and_loaded_with_its_backbone(folder: Path, tmp_path: Path, method: str, freeze: bool) -> None:
    report = trained(folder, tmp_path / "run", freeze=freeze, method=method)
    assert report["backbone"]["sha256"] == open_backbone(str(folder)).sha256
    run = load_run(tmp_path / "run")
    stored = tiny.tensors_of(folder / "model.safetensors")["transformer.blocks.0.query.weight"]
    backbone = run.method.backbones[0] if method == "dedicated" else run.method.backbone
    assert torch.equal(backbone.transformer.blocks[0].query.weight, stored) == freeze
    weights = tiny.tensors_of(tmp_path / "run" / "weights.safetensors")
    assert any("transformer" in key for key in weights) != freeze
    again = evaluate_run(run, tiny.table(tiny.rows()), part="report")
    assert again["patterns"] == report["patterns"]


def test_a_run_refuses_a_backbone_that_changed_or_is_gone(mine: Path, tmp_path: Path) -> None:
    trained(mine, tmp_path / "run", freeze=True)
    load_run(tmp_path / "run")
    kept = Path(shutil.copytree(mine, tmp_path / "kept"))
    shutil.rmtree(mine)
    with pytest.raises(UserError, match=rf"made with another backbone.*{mine}"):
        load_run(tmp_path / "run")
    write_backbone(mine, seed=9)
    with pytest.raises(UserError, match=rf"backbone '{mine}' has changed since the run was made"):
        load_run(tmp_path / "run")
    shutil.rmtree(mine)
    kept.rename(mine)
    load_run(tmp_path / "run")


def test_a_run_finds_its_backbone_from_another_place(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trained(Path("mine"), tmp_path / "run", freeze=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = json.loads((tmp_path / "run" / "schema.json").read_text())["backbone"]
    assert load_run(tmp_path / "run").fitted.backbone.describe() == before


def test_what_was_fitted_with_a_backbone_comes_back(folder: Path) -> None:
    data = prepared_with(folder)
    state = json.loads(json.dumps(fitted_to(data.fitted)))
    again = fitted_from(state)
    assert fitted_to(again) == state
    one, other = (
        tiny.method_of("dropout", d, model=with_backbone(folder)) for d in (data, replace(data, fitted=again))
    )
    assert np.array_equal(answer(one, data.rows["test"]).probabilities, answer(other, data.rows["test"]).probabilities)


def test_a_frozen_encoder_is_part_of_it(tmp_path: Path) -> None:
    encoder = checkpoints.vit(tmp_path / "vit")
    folder = write_backbone(tmp_path / "b", ["photo", "facts"], photo=Image(encoder=str(encoder)))
    data = prepared_with(folder, ["photo"])
    assert data.fitted.schema.modalities["photo"].encoder == str(encoder)
    assert set(tiny.everything(data).inputs["photo"]) == {"features", "mask"}
    tiny.method_of("dropout", data, model=with_backbone(folder))(tiny.everything(data))
    checkpoints.changed(encoder, lambda tensors: {key: t + 1 for key, t in tensors.items()})
    with pytest.raises(UserError, match="of 'photo' has changed since backbone"):
        open_backbone(str(folder))


def test_a_tuned_encoder_goes_along(tmp_path: Path) -> None:
    encoder = checkpoints.vit(tmp_path / "vit")
    folder = write_backbone(tmp_path / "b", ["photo"], photo=Image(encoder=str(encoder), tune=True))
    data = prepared_with(folder, ["photo"])
    method = tiny.method_of("dropout", data, stir=0, model=with_backbone(folder))
    stored = tiny.tensors_of(folder / "model.safetensors")
    assert any("encoder.model" in key for key in stored)
    assert all(torch.equal(t, stored[key]) for key, t in method.backbone.state_dict().items())

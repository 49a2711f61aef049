"""A dense network from `absentia pretrain --method universal`: what it learned arrives in every method for masks."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image as Pillow
from tests import scans, tiny
from tests.backbones import write_backbone

from absentia.cli import main
from absentia.config import Model
from absentia.data.kinds import Volume
from absentia.data.segmentation import Masks
from absentia.data.table import open_table
from absentia.errors import UserError
from absentia.jobs import evaluate_run, train_run
from absentia.learn.backbones import backbone_of, open_backbone
from absentia.learn.build import fitted_from, fitted_to
from absentia.learn.prepare import Prepared, prepare
from absentia.learn.pretrained_dense import PretrainedDense
from absentia.learn.run import load_run
from absentia.methods import Method
from absentia.pretrain import pretrain_run

FILES = ["config.json", "config.yaml", "metrics.jsonl", "model.safetensors"]


def pretrained(out: Path, made: scans.Rows | None = None, **more: Any) -> dict[str, Any]:
    given = {key: more.pop(key) for key in ("resume", "watcher") if key in more}
    source = scans.table(scans.rows() if made is None else made)
    return pretrain_run(scans.config("universal", **more), out, source=source, **given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dense") / "network"
    pretrained(path)
    return path


def with_network(folder: Path, **more: Any) -> Model:
    return Model(backbone=str(folder), **more)


def prepared(folder: Path, names: list[str] = scans.NAMES, made: scans.Rows | None = None, **kind: Any) -> Prepared:
    schema = replace(scans.schema(names), modalities={name: Volume(**kind) for name in names})
    source = open_table(scans.table(scans.rows() if made is None else made))
    return prepare(source, schema, plan=None, on_bad="error", backbone=backbone_of(with_network(folder)))


def made_of(name: str, folder: Path, names: list[str] = scans.NAMES, *, freeze: bool = False, **options: Any) -> Method:
    model = with_network(folder, freeze=freeze)
    return scans.method_of(name, prepared(folder, names), stir=0, model=model, **options)


def network_in(folder: Path) -> dict[str, torch.Tensor]:
    stored = tiny.tensors_of(folder / "model.safetensors")
    return {key: x for key, x in stored.items() if not key.startswith("beside.")}


def same(module: torch.nn.Module, stored: dict[str, torch.Tensor]) -> bool:
    state = module.state_dict()
    return state.keys() == stored.keys() and all(torch.equal(x, stored[key]) for key, x in state.items())


# --- it is made ------------------------------------------------------------------------------------------------------


def test_the_folder_says_what_the_network_saw(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == FILES
    found = open_backbone(str(folder))
    assert isinstance(found, PretrainedDense) and list(found.kinds) == scans.NAMES
    assert found.saw["target"] is None and found.saw["rows"] == {"train": 10, "val": 4}
    assert found.saw["objectives"]["template"] == "low" and "voxels" in found.saw["validation"]
    assert found.sizes == {"network": "BasicUNet", "options": scans.TINY.network_options, "channels": [1, 1, 1]}
    assert found.learned.keys() == {"say.weight", "say.bias", "template.image"}


def test_it_learned_something(folder: Path) -> None:
    fresh = scans.method_of("dropout", scans.prepared(), stir=0)
    assert not same(fresh.backbone, network_in(folder))
    assert open_backbone(str(folder)).learned["template.image"].any()


def test_masks_are_not_opened_and_not_needed(folder: Path, tmp_path: Path) -> None:
    made = scans.rows()
    for i, row in enumerate(made):
        row["mask"] = None if i % 2 else b"no mask at all"
    pretrained(tmp_path / "b", made)
    assert same_files(folder, tmp_path / "b")


def test_what_a_plan_hides_and_test_rows_are_not_opened(tmp_path: Path) -> None:
    made = scans.rows()
    plan = scans.plan_of(made, {"p0": ["t2"], "p4": ["t2"]})
    plan.save(tmp_path / "plan.parquet")
    content = pretrained(tmp_path / "clean", made, plan=str(tmp_path / "plan.parquet"))
    assert content["saw"]["plan_sha256"] == plan.sha256
    for row in made:
        if row["t2"] is not None and (row["split"] == "test" or row["patient"] in ("p0", "p4")):
            row["t2"] = b"poison"
    pretrained(tmp_path / "poisoned", made, plan=str(tmp_path / "plan.parquet"))
    assert same_files(tmp_path / "clean", tmp_path / "poisoned")


@pytest.mark.parametrize("step", [1, 3])
def test_a_killed_one_ends_in_the_same_bits(folder: Path, tmp_path: Path, step: int) -> None:
    with pytest.raises(tiny.Killed):
        pretrained(tmp_path / "b", watcher=tiny.killer(step))
    pretrained(tmp_path / "b", resume=True)
    assert same_files(folder, tmp_path / "b")


def same_files(one: Path, other: Path) -> bool:
    return all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in ("config.json", "model.safetensors")
    )


@pytest.mark.parametrize(
    ("dims", "options"),
    [
        (3, {"template": "scalar", "distribution": "none"}),
        (2, {"template": "full", "ratio": 0.5, "whole": 0, "patch": 3, "distribution": "sliced"}),
    ],
)
def test_volumes_and_crops(tmp_path: Path, dims: int, options: dict[str, Any]) -> None:
    masks = Masks(regions=scans.BRAIN, crop=[8], flips=True, intensity=0.1)
    made = scans.rows(dims=dims)
    saw = pretrained(tmp_path / "b", made, masks=masks, options=options)["saw"]
    assert np.isfinite(saw["validation"]["voxels"])
    config = scans.config("universal", masks=masks, reference=False, model=with_network(tmp_path / "b"))
    config = replace(config, options={"imagine": 0, "template": options["template"]})
    report = train_run(config, tmp_path / "run", source=scans.table(made), page=False)
    assert report["backbone"]["saw"] == saw


def test_one_contrast_is_enough_to_pretrain_on(tmp_path: Path) -> None:
    pretrained(tmp_path / "b", modality={"t1": "volume"})
    assert made_of("dropout", tmp_path / "b", ["t1"]).backbone.channels == (1,)


def test_puzzles_are_of_tokens(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a dense network, which is pretrained with --method universal"):
        pretrain_run(scans.config("pretraining"), tmp_path / "b", source=scans.table(scans.rows()))
    assert not (tmp_path / "b").exists()


# --- it arrives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", [False, True])
def test_every_method_for_masks_starts_from_its_weights(folder: Path, freeze: bool) -> None:
    stored = network_in(folder)
    assert same(made_of("dropout", folder, freeze=freeze).backbone, stored)
    assert same(made_of("ignore", folder, freeze=freeze).backbone, stored)
    dedicated = made_of("dedicated", folder, freeze=freeze)
    assert len(dedicated.backbones) == 7 and all(same(network, stored) for network in dedicated.backbones)
    assert any(key.startswith("backbone") for key in dedicated.learned()) != freeze
    body = made_of("universal", folder, freeze=freeze).body
    assert same(body.imagination.backbone, stored) and same(body.backbone, stored)


def test_copies_learn_apart_and_frozen_ones_share_their_weights(folder: Path) -> None:
    places = [
        [next(network.parameters()).data_ptr() for network in made_of("dedicated", folder, freeze=freeze).backbones]
        for freeze in (False, True)
    ]
    assert len(set(places[0])) == 7 and len(set(places[1])) == 1


def test_a_frozen_network_stays_in_evaluation(folder: Path) -> None:
    method = made_of("dropout", folder, freeze=True).train()
    assert method.training and not method.backbone.training
    assert not any(p.requires_grad for p in method.backbone.parameters())


def test_the_first_stage_goes_on_or_is_left_out(folder: Path) -> None:
    learned = open_backbone(str(folder)).learned
    goes_on, leaves_out = (made_of("universal", folder, **options) for options in ({}, {"imagine": 0}))
    for method in (goes_on, leaves_out):
        state = method.body.imagination.state_dict()
        assert all(torch.equal(state[key], x) for key, x in learned.items())
    assert [stage.name for stage in goes_on.stages()] == ["imagine", "answer"]
    assert [stage.name for stage in leaves_out.stages()] == ["answer"]


def test_what_is_left_out_needs_to_be_there(folder: Path) -> None:
    with pytest.raises(UserError, match=r"imagine 0 leaves the first stage out: it needs model\.backbone"):
        scans.method_of("universal", scans.prepared(), imagine=0)
    with pytest.raises(UserError, match=r"template 'full': it has 12 x 12 points, .* network 8 x 8; say the template"):
        made_of("universal", folder, template="full")
    with pytest.raises(UserError, match=r"options\.imagine 0\.001"):
        made_of("universal", folder, imagine=0.001)


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("dropout", ["flair", "t1", "t2"]),
        ("dropout", ["flair"]),
        ("universal", ["flair", "t1", "t2"]),
        ("universal", ["t2", "t1"]),
    ],
)
def test_a_table_may_have_fewer_contrasts_in_any_order(folder: Path, method: str, names: list[str]) -> None:
    """The same network sees the same: a contrast by its own channels, and zeros where the table has none."""
    whole, part = made_of(method, folder), made_of(method, folder, names)
    networks = [m.backbone if method == "dropout" else m.body.backbone for m in (whole, part)]
    assert same(networks[1], network_in(folder)) and networks[1].channels == (1,) * len(names)
    x = torch.rand(2, 3, 12, 12)
    places = [scans.NAMES.index(name) for name in names]
    lacking = [m for m in range(3) if m not in places]
    x[:, lacking] = 0
    for one, other in zip(networks[0](x), networks[1](x[:, places]), strict=True):
        torch.testing.assert_close(one, other)
    if method == "universal":
        learned = open_backbone(str(folder)).learned
        template = part.body.imagination.template.image
        assert torch.equal(template, learned["template.image"][places])


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("method", ["dropout", "ignore", "universal"])
def test_a_run_is_saved_and_loaded_with_it(folder: Path, tmp_path: Path, method: str, freeze: bool) -> None:
    options = {"imagine": 0} if method == "universal" else {}
    settings = scans.config(method, model=with_network(folder, freeze=freeze), options=options, reference=False)
    report = train_run(settings, tmp_path / "run", source=scans.table(scans.rows()), page=False)
    assert report["backbone"]["sha256"] == open_backbone(str(folder)).sha256
    run = load_run(tmp_path / "run")
    network = run.method.body.backbone if method == "universal" else run.method.backbone
    assert same(network, network_in(folder)) == freeze, "tuned or frozen"
    again = evaluate_run(run, scans.table(scans.rows()), part="report")
    assert again["patterns"] == report["patterns"]


def test_what_was_fitted_with_it_comes_back(folder: Path) -> None:
    fitted = prepared(folder, ["flair", "t1"]).fitted
    state = json.loads(json.dumps(fitted_to(fitted)))
    assert fitted_to(fitted_from(state)) == state


# --- what does not fit is refused ------------------------------------------------------------------------------------


def coloured(made: scans.Rows) -> scans.Rows:
    for row in made:
        if row["t2"] is not None:
            buffer = io.BytesIO()
            Pillow.open(io.BytesIO(row["t2"])).convert("RGB").save(buffer, "PNG")
            row["t2"] = buffer.getvalue()
    return made


def test_another_contrast_is_refused(folder: Path) -> None:
    schema = replace(scans.schema(), modalities={"t1": Volume(), "pet": Volume()})
    with pytest.raises(UserError, match="does not know a modality 'pet'; known: t1, t2, flair"):
        open_backbone(str(folder)).adopt(schema)


def test_contrasts_that_are_read_in_another_way_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"'t1': clip \(5, 95\), but backbone .* has \(1\.0, 99\.0\)"):
        prepared(folder, clip=(5, 95))


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (scans.rows(dims=3), "modality 't1' holds volumes, but backbone .* was made from planes"),
        (coloured(scans.rows()), "modality 't2' has 3 channels, but backbone .* was made from 1 of it"),
    ],
)
def test_other_axes_and_channels_are_refused(folder: Path, made: scans.Rows, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        prepared(folder, made=made)


def test_another_network_is_refused(folder: Path) -> None:
    for settings, sentence in (
        ({"network": "SegResNet"}, r"model\.network 'SegResNet', but backbone .* has 'BasicUNet'; leave"),
        ({"network_options": {"features": [8] * 6}}, r"model\.network_options .* leave model\.network_options away"),
    ):
        with pytest.raises(UserError, match=sentence):
            backbone_of(with_network(folder, **settings))
    for features in ([4] * 6, (4,) * 6):
        assert backbone_of(with_network(folder, network_options={"features": features})) is not None


def test_each_kind_of_backbone_has_its_own_targets(folder: Path, tmp_path: Path) -> None:
    fused = write_backbone(tmp_path / "fused")
    with pytest.raises(UserError, match="is a fused transformer, which answers no masks; make a dense network with"):
        open_backbone(str(fused)).adopt(scans.schema())
    with pytest.raises(UserError, match="is a dense network, which answers masks and nothing else; is target 'kind'"):
        open_backbone(str(folder)).adopt(tiny.schema(names=tiny.NAMES))


def test_a_network_without_its_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_bytes((folder / "config.json").read_bytes())
    stored = tiny.tensors_of(folder / "model.safetensors")
    pretrained(tmp_path / "other", options={"template": "full"})
    (broken / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match="belongs to another config"):
        open_backbone(str(broken))
    assert "beside.template.image" in stored


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "scans.parquet"
    pq.write_table(scans.table(scans.rows()), table)
    declared = [str(table), "--id", "patient", "--target", "mask=mask"]
    declared += [word for name in scans.NAMES for word in ("--modality", f"{name}=volume")]
    quick = ["--training.epochs", "1", "--training.batch", "4"]
    small = ["--model.network_options", '{"features": [4, 4, 4, 4, 4, 4]}']
    out = str(tmp_path / "network")
    assert main(["pretrain", *declared, *quick, *small, "--masks.crop", "[8]", "--out", out]) == 2
    assert "--method universal" in capsys.readouterr().err
    learn = ["pretrain", *declared, *quick, *small, "--method", "universal", "--masks.crop", "[8]", "--out", out]
    assert main(learn) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "A dense network, BasicUNet, saw" in said and f"--model.backbone {out}" in said
    assert main(["pretrain", "--resume", "--out", out]) == 0
    taken_up = ["--model.backbone", out, "--reference", "false", *quick]
    universal = ["--method", "universal", "--options.imagine", "0"]
    for more in ([], universal):
        assert main(["train", *declared, *taken_up, *more, "--out", str(tmp_path / f"run{len(more)}")]) == 0
    capsys.readouterr()
    assert main(["train", *declared, *taken_up, "--model.network", "UNETR", "--out", str(tmp_path / "x")]) == 2
    assert "'UNETR', but backbone" in capsys.readouterr().err and not (tmp_path / "x").exists()

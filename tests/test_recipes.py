"""Recipes run: on data sets in miniature, from tiny encoders in the place of those that they name."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests import checkpoints, miniatures

from absentia.config import Model, RunConfig, config_from
from absentia.data.absence import MaskPlan
from absentia.data.absence_protocols import eta, per_modality
from absentia.data.absence_rules import Rule
from absentia.data.catalog import open_source
from absentia.declared import declared_schema
from absentia.evaluate.sheet import sheet
from absentia.jobs import evaluate_run, train_run
from absentia.learn.prepare import survey
from absentia.learn.run import load_run
from absentia.models.dense import DenseBackbone

RECIPES = Path(__file__).parents[1] / "recipes"
DATA = {"food101": miniatures.food, "mmimdb": miniatures.films, "hateful-memes": miniatures.memes}
TINY = {"google/vit-base": checkpoints.vit, "google-bert": checkpoints.bert, "openai/clip": checkpoints.clip}
RUN = sorted(p.stem for p in RECIPES.glob("*.yaml") if p.stem.startswith(("joint-embedding", "single-branch")))


BRATS = sorted(p.stem for p in RECIPES.glob("brats*.yaml"))
CANONICAL = (  # the rows of the papers' tables
    *("t2", "t1ce", "t1", "flair", "t1ce+t2", "t1ce+t1", "flair+t1", "t1+t2", "flair+t2", "flair+t1ce"),
    *("flair+t1ce+t1", "flair+t1+t2", "flair+t1ce+t2", "t1ce+t1+t2", "flair+t1ce+t1+t2"),
)
SIZES = {"brats2018": (199, 29, 57), "brats2020": (219, 50, 100)}


@pytest.mark.parametrize("name", RUN)
def test_a_recipe_runs_in_miniature(tmp_path: Path, name: str) -> None:
    config = small(settings_of(name), tmp_path)
    plan = drawn(config) if config.plan else None
    report = train_run(replace(config, plan=None), tmp_path / "run", plan=plan, page=False)
    assert {line["pattern"] for line in report["patterns"]} >= set(config.modality)
    again = evaluate_run(load_run(tmp_path / "run"), config.table, part="report", plan=plan)
    assert again["as_given"]["score"] == report["as_given"]["score"]


def small(config: RunConfig, folder: Path) -> RunConfig:
    """The same recipe on data and from encoders that were made a moment ago."""
    kind, _, _ = config.table.partition(":")
    table = f"{kind}:{DATA[kind](folder / 'data')}" if kind in DATA else str(miniatures.voices(folder / "t.parquet"))
    modality = {name: tiny(options, folder) for name, options in config.modality.items()}
    training = replace(config.training, epochs=1, batch=4, validations=1)
    model = Model(width=16, depth=1, heads=2, mlp=1)
    return replace(config, table=table, modality=modality, training=training, model=model)


def tiny(options: Any, folder: Path) -> Any:
    if not isinstance(options, dict) or "encoder" not in options:
        return options
    make = next(make for name, make in TINY.items() if options["encoder"].startswith(name))
    place = folder / make.__name__
    return {**options, "encoder": str(place if place.exists() else make(place))}


def drawn(config: RunConfig, rules: dict[str, Rule] | None = None) -> MaskPlan:
    table = open_source(config.table)
    seen = survey(table, declared_schema(config, table, lambda line: None))
    rule = eta(0.5, absent="both", modalities=list(config.modality))
    rules = rules or dict.fromkeys(("train", "val", "test"), rule)
    return MaskPlan.draw(
        modalities=list(config.modality), splits=list(seen.split), ids=seen.ids, rules=rules, seed=config.seed
    )


# --- brain tumours ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BRATS)
def test_a_table_of_brats_runs_in_miniature(tmp_path: Path, name: str) -> None:
    config = tumours(settings_of(name), tmp_path)
    report = train_run(replace(config, reference=False), tmp_path / "run", page=False)
    rows = list(csv.DictReader(io.StringIO(sheet([report], ["run"]))))
    assert [row["pattern"] for row in rows] == [*CANONICAL, "mean"], "as the papers list them"
    assert float(rows[-1]["dice WT"]) == pytest.approx(np.mean([float(row["dice WT"]) for row in rows[:-1]]))
    assert report["target"]["classes"] == ["WT", "TC", "ET"]
    metrics = report["patterns"][-1]["metrics"]
    assert {f"{score} {region}" for score in ("dice", "hd95") for region in ("WT", "TC", "ET")} <= metrics.keys()
    assert "dice_post ET" in metrics, "with small regions taken back, beside the plain one"
    again = evaluate_run(load_run(tmp_path / "run"), config.table, part="report")
    assert again["as_given"]["score"] == report["as_given"]["score"]


@pytest.mark.parametrize("method", ["ignore", "dedicated", "universal"])
def test_baselines_take_the_same_recipe(tmp_path: Path, method: str) -> None:
    config = replace(tumours(settings_of("brats2020"), tmp_path), method=method, reference=False, patterns=["t1", "t2"])
    rule = per_modality({"t1": 0.2, "t1ce": 0.4, "flair": 0.6, "t2": 0.8}, list(config.modality), exact=True)
    plan = drawn(config, {"train": rule})
    report = train_run(config, tmp_path / "run", plan=plan, page=False)
    assert report["plan"]["asked"]["train"]["p_absent"]["t2"] == pytest.approx((0.8 - 0.0384) / (1 - 0.0384))


@pytest.mark.parametrize("name", BRATS)
def test_the_published_lists_have_the_published_sizes(tmp_path: Path, name: str) -> None:
    config = settings_of(name)
    kind = config.table.partition(":")[0]
    assert all(not note.endswith("were expected") for note in listed(tmp_path / "whole", kind, SIZES[kind]))
    counts = "/".join(map(str, SIZES[kind]))
    assert f"{kind}: train/val/test subjects {counts}" in listed(tmp_path / "again", kind, SIZES[kind])
    train, val, test = SIZES[kind]
    notes = listed(tmp_path / "other", kind, (train + 1, val - 1, test))
    assert f"{counts} of {sum(SIZES[kind])} subjects were expected; there are {sum(SIZES[kind])}" in notes


@pytest.mark.parametrize("name", BRATS)
def test_the_network_is_m3aes(name: str) -> None:
    model = settings_of(name).model
    network = DenseBackbone(channels=[1] * 4, dims=3, network=model.network, options=model.network_options)
    count = sum(p.numel() for p in network.parameters())
    assert count + 3 * (16 + 1) == pytest.approx(4.7045e6, rel=1e-3) and network.deep == 128


def settings_of(name: str) -> RunConfig:
    return config_from(RunConfig, yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8")))


def tumours(config: RunConfig, folder: Path) -> RunConfig:
    """The recipe on a folder in miniature, with a network that has as many levels."""
    kind = config.table.partition(":")[0]
    table = f"{kind}:{miniatures.tumours(folder / 'data', int(kind[-4:]))}"
    options = {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}
    return replace(
        config,
        table=table,
        model=replace(config.model, network_options=options),
        masks=replace(config.masks, crop=[8]),
        training=replace(config.training, epochs=1, validations=1),
        options=config.options | ({"patch": 4} if "patch" in config.options else {}),
    )


def listed(folder: Path, kind: str, sizes: tuple[int, int, int]) -> tuple[str, ...]:
    """The notes on a folder with as many subjects as the original, and lists of these sizes."""
    names = [f"s{i:03}" for i in range(sum(sizes))]
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name}_t1.nii.gz").touch()
    ends = [sum(sizes[: i + 1]) for i in range(3)]
    for split, size, end in zip(("train", "val", "test"), sizes, ends, strict=True):
        (folder / f"{split}.txt").write_text("\n".join(names[end - size : end]))
    return tuple(open_source(f"{kind}:{folder}").notes)

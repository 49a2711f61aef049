"""Recipes run: on data sets in miniature, from tiny encoders in the place of those that they name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import checkpoints, miniatures

from absentia.config import Model, RunConfig, config_from
from absentia.data.absence import MaskPlan
from absentia.data.absence_protocols import eta
from absentia.data.catalog import open_source
from absentia.declared import declared_schema
from absentia.jobs import evaluate_run, train_run
from absentia.learn.prepare import survey
from absentia.learn.run import load_run

RECIPES = Path(__file__).parents[1] / "recipes"
DATA = {"food101": miniatures.food, "mmimdb": miniatures.films, "hateful-memes": miniatures.memes}
TINY = {"google/vit-base": checkpoints.vit, "google-bert": checkpoints.bert, "openai/clip": checkpoints.clip}
RUN = sorted(p.stem for p in RECIPES.glob("*.yaml") if p.stem.startswith(("joint-embedding", "single-branch")))


@pytest.mark.parametrize("name", RUN)
def test_a_recipe_runs_in_miniature(tmp_path: Path, name: str) -> None:
    config = config_from(RunConfig, yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8")))
    config = small(config, tmp_path)
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


def drawn(config: RunConfig) -> MaskPlan:
    table = open_source(config.table)
    seen = survey(table, declared_schema(config, table, lambda line: None))
    rule = eta(0.5, absent="both", modalities=list(config.modality))
    rules = dict.fromkeys(("train", "val", "test"), rule)
    return MaskPlan.draw(
        modalities=list(config.modality), splits=list(seen.split), ids=seen.ids, rules=rules, seed=config.seed
    )

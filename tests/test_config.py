"""A run's settings: what cannot be is said with its name, before anything starts."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from absentia.config import Model, RunConfig, Training, config_from, config_to
from absentia.errors import UserError


def test_defaults_need_a_table_alone() -> None:
    config = config_from(RunConfig, {"table": "t.csv"})
    assert config == RunConfig(table="t.csv") and config.model == Model() and config.training == Training()


FULL = {
    "table": "t.csv",
    "modality": {"poster": "image", "facts": {"kind": "tabular", "columns": ["a", "b"]}},
    "target": "genre=class",
    "method": "dedicated",
    "on_bad": "skip",
    "seed": 2**63 - 1,
    "reference": False,
    "patterns": ["poster", "poster+facts"],
    "model": {"width": 64, "heads": 8, "dropout": 0},
    "training": {"epochs": 3, "lr": 0.01, "patience": None, "precision": "bf16", "tracker": "wandb"},
}


def test_a_full_configuration_survives_yaml_and_json() -> None:
    config = config_from(RunConfig, FULL)
    assert config.model.width == 64 and config.training.epochs == 3 and config.training.patience is None
    for again in (yaml.safe_load(yaml.safe_dump(config_to(config))), json.loads(json.dumps(config_to(config)))):
        assert config_from(RunConfig, again) == config
    assert config_from(RunConfig, FULL | {"model": config.model}) == config  # made already


@pytest.mark.parametrize("text", ["training: {lr: 1e-3}", "training: {lr: '0.001'}", "training: {lr: 1.0e-3}"])
def test_numbers_that_yaml_takes_for_texts(text: str) -> None:
    assert config_from(RunConfig, {"table": "t", **yaml.safe_load(text)}).training.lr == 0.001


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tabel": "t"}, "unknown key 'tabel'; did you mean 'table'?"),
        ({"model": {"widht": 64}}, "unknown key 'model.widht'; did you mean 'width'?"),
        ({"training": {"learning_rate": 1}}, "unknown key 'training.learning_rate'"),
        ({3: 4}, "unknown key '3'"),
        ({"reference": "no"}, "reference 'no': must be true or false"),
        ({"options": {"momentum": float("inf")}}, "options.momentum inf: must be a finite number"),
        (
            {"modality": {"t1": {"kind": "volume", "clip": [float("nan"), 99]}}},
            "modality.t1.clip.0 nan: must be a fini",
        ),
        ({"model": {"network_options": {"dropout": float("nan")}}}, "model.network_options.dropout nan: must be a fin"),
        ({"table": None}, "table None: must be a text"),
        ({"table": 3}, "table 3: must be a text"),
        ({"modality": ["poster=image"]}, "modality ['poster=image']: must be texts as keys with values"),
        ({"modality": {2019: "image"}}, "modality {2019: 'image'}: must be texts as keys"),
        ({"target": ["a"]}, "target ['a']: must be a text or null"),
        ({"patterns": "image"}, "patterns 'image': must be a list"),
        ({"patterns": [1]}, "patterns [1]: must be a list"),
        ({"reference": "no"}, "reference 'no': must be true or false"),
        ({"reference": 1}, "reference 1: must be true or false"),
        ({"seed": "one"}, "seed 'one': must be a whole number"),
        ({"seed": 1.0}, "seed 1.0: must be a whole number"),
        ({"seed": True}, "seed True: must be a whole number"),
        ({"seed": -1}, "seed -1: must be a whole number from 0"),
        ({"seed": 2**63}, "must be a whole number from 0"),
        ({"on_bad": "abesnt"}, "on_bad 'abesnt': did you mean 'absent'?"),
        ({"on_bad": None}, "on_bad None: must be a text"),
        ({"model": 5}, "model 5: expected keys and values"),
        ({"model": None}, "model None: expected keys and values"),
        ({"training": ["lr"]}, "training ['lr']: expected keys and values"),
        ({"model": {"width": 0}}, "model.width 0: must be a whole number, at least 1"),
        ({"model": {"width": 96.0}}, "model.width 96.0: must be a whole number"),
        ({"model": {"width": True}}, "model.width True: must be a whole number"),
        ({"model": {"width": 97}}, "model.width 97: must be a multiple of 4 and of model.heads (4)"),
        ({"model": {"freeze": True}}, "model.freeze keeps a pretrained backbone as it is: say which"),
        ({"model": {"heads": 5}}, "model.width 96: must be a multiple"),
        ({"model": {"dropout": 1.0}}, "model.dropout 1.0: must be a number from 0 to 0.9"),
        ({"model": {"dropout": float("nan")}}, "model.dropout nan"),
        ({"training": {"lr": 0}}, "training.lr 0: must be a number from 1e-12"),
        ({"training": {"lr": "fast"}}, "training.lr 'fast': must be a number"),
        ({"training": {"lr": "nan"}}, "training.lr nan: must be a number from"),
        ({"training": {"lr": True}}, "training.lr True: must be a number"),
        ({"training": {"epochs": 0}}, "training.epochs 0: must be a number from"),
        ({"training": {"epochs": float("inf")}}, "training.epochs inf: must be a number from"),
        ({"training": {"batch": 0}}, "training.batch 0: must be a whole number, at least 1"),
        ({"training": {"batch": 8.5}}, "training.batch 8.5: must be a whole number"),
        ({"training": {"patience": 0}}, "training.patience 0: must be a whole number, at least 1"),
        ({"training": {"warmup": 1.1}}, "training.warmup 1.1: must be a number from 0 to 1"),
        ({"training": {"checkpoint_seconds": -1}}, "training.checkpoint_seconds -1"),
        ({"training": {"precision": "fp16"}}, "training.precision 'fp16': did you mean 'bf16'?"),
        ({"training": {"tracker": "tensorbord"}}, "did you mean 'tensorboard'?"),
    ],
)
def test_values_that_cannot_be(changes: dict[Any, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        config_from(RunConfig, {"table": "t"} | changes)
    assert message in str(caught.value)


def test_settings_that_are_no_mapping() -> None:
    with pytest.raises(UserError, match="settings 'x': expected keys and values"):
        config_from(RunConfig, "x")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="'table' is missing"):
        config_from(RunConfig, {})


@pytest.mark.parametrize(
    ("made", "options"),
    [
        *((Model, {"width": True}), (Training, {"batch": True}), (Training, {"lr": "fast"})),
        (RunConfig, {"table": "t", "seed": 0.5}),
    ],
)
def test_python_is_told_as_well(made: Any, options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        made(**options)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(RunConfig)]), JUNK, max_size=2),
    st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(Training)]), JUNK, max_size=2),
)
def test_any_junk_is_a_configuration_or_one_error(top: dict[str, Any], training: dict[str, Any]) -> None:
    try:
        config = config_from(RunConfig, {"table": "t", "training": training} | top)
    except UserError as error:
        assert str(error)
    else:
        assert config_from(RunConfig, config_to(config)) == config

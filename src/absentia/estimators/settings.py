"""The parameters of an estimator as the settings of a run, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from absentia.config import Model, RunConfig, Training, config_from
from absentia.data.kinds import Kind
from absentia.data.schema import Target, modality_from
from absentia.errors import UserError
from absentia.learn.run import Run, read_config
from absentia.methods import method_named

__all__ = ["declared_kinds", "parameters_of", "settings_of", "target_flag"]


def declared_kinds(modalities: Any) -> dict[str, Kind]:
    """Modalities by name, from kinds or from what YAML has for them; raises `UserError` for anything else."""
    if not isinstance(modalities, Mapping) or not modalities:
        raise UserError('no modality declared: give them by name, such as {"poster": Image(), "plot": Text()}')
    return {str(name): _kind(str(name), kind) for name, kind in modalities.items()}


def settings_of(parameters: Mapping[str, Any]) -> RunConfig:
    """The settings of a run whose table is not known yet; raises `UserError` for what cannot be."""
    given = {name: _plain(value) for name, value in parameters.items()}
    given["options"] = _options(given["method"], given["options"])
    modalities = declared_kinds(given.pop("modalities"))
    return RunConfig(
        table="",
        modality={name: kind.describe() for name, kind in modalities.items()},
        model=Model(**_of(Model, given)),
        training=Training(**_of(Training, given)),
        **_of(RunConfig, given),
    )


def parameters_of(run: Run, names: list[str]) -> dict[str, Any]:
    """The parameters called `names` of an estimator that would train this run."""
    config = read_config(run.folder)
    declared = {name: modality_from(name, options) for name, options in config.modality.items()}
    target = run.fitted.codec.target
    known = vars(config.model) | vars(config.training) | vars(config)
    known |= {"modalities": declared or dict(run.fitted.schema.modalities), "log": target.log}
    known |= {"options": config.options or None}
    return {name: known[name] for name in names if name in known}


def target_flag(target: Target) -> str:
    """The target as a setting."""
    return f"{target.column}={'log' if target.log else target.kind}"


def _options(method: str, options: Any) -> dict[str, Any]:
    """The method's own settings, checked before any table is opened."""
    kind = method_named(method)
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise UserError(f'options {options!r}: give the settings of {method!r} by name, such as {{"NAME": value}}')
    plain = {str(name): _plain(value) for name, value in options.items()}
    config_from(kind.Options, plain, "options.")
    return plain


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _of(kind: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: given[field.name] for field in fields(kind) if field.name in given}


def _kind(name: str, given: Any) -> Kind:
    if isinstance(given, Kind):
        return given
    if isinstance(given, (str, Mapping)):
        return modality_from(name, given)
    hint = f"{given.__name__}()" if isinstance(given, type) else "Image(), Text(), Tabular([...]), Series() or Audio()"
    raise UserError(f"modality {name!r} is {given!r}; write {hint}")

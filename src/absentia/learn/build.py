"""A method from what was fitted and the run's settings: the same for a fresh training and for loading a run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from absentia.config import Model
from absentia.data.schema import Schema
from absentia.data.target import TargetCodec
from absentia.errors import UserError
from absentia.layers.subsets import all_patterns
from absentia.learn.backbones import (
    blank_backbone,
    blank_network,
    known_encoders,
    restored_decoder,
    same_backbone,
)
from absentia.learn.draws import number_of
from absentia.learn.prepare import NO_TARGET, Fitted
from absentia.methods import METHODS, method_named
from absentia.methods.base import Method, Parts

__all__ = ["build_method", "fitted_from", "fitted_to", "make_method", "patterns_seen"]

M = TypeVar("M", bound=Method)
MOST = 8  # modalities up to which every pattern is meant


def build_method(
    name: str,
    fitted: Fitted,
    model: Model,
    *,
    seed: int,
    seen: npt.NDArray[np.bool_],
    options: Mapping[str, Any] | None = None,
) -> Method:
    """A fresh method by its name; see `make_method`."""
    return make_method(method_named(name), fitted, model, seed=seed, seen=seen, options=options)


def make_method(
    kind: type[M],
    fitted: Fitted,
    model: Model,
    *,
    seed: int,
    seen: npt.NDArray[np.bool_],
    options: Mapping[str, Any] | None = None,
) -> M:
    """A fresh method; the same seed gives the same weights.

    `seen` is bool (P, M), see `patterns_seen`; `options` are the method's own settings.
    """

    if fitted.codec.target.kind == "mask" and not kind.dense:
        able = ", ".join(sorted(name for name, method in METHODS.items() if method.dense))
        raise UserError(f"method {kind.name!r} does not answer masks; these do: {able}")
    if (model.backbone is None) != (fitted.backbone is None):
        raise ValueError("the rows were prepared for another backbone than model.backbone")
    if fitted.backbone is not None:
        fitted.backbone.check_target(fitted.schema)
    state = torch.get_rng_state()
    try:
        torch.manual_seed(number_of(seed, "method", kind.name))
        parts = Parts(
            names=fitted.schema.names,
            codec=fitted.codec,
            backbone=partial(_backbone, fitted, model, seed),
            blanks=fitted.blanks(),
            seen=seen,
            dropout=model.dropout,
            options=options or {},
            beside=fitted.backbone.beside(fitted.schema) if fitted.backbone else {},
        )
        return kind(parts=parts)
    finally:
        torch.set_rng_state(state)


def _backbone(fitted: Fitted, model: Model, seed: int, number: int = 0) -> nn.Module:
    if fitted.backbone is not None:
        return fitted.backbone.build(fitted.schema, freeze=model.freeze, dropout=model.dropout)
    torch.manual_seed(number_of(seed, "backbone", number))
    if fitted.codec.target.kind == "mask":
        return blank_network(fitted.decoders, model)
    return blank_backbone(fitted.schema, fitted.decoders, fitted.encoders, model)


def patterns_seen(presence: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """bool (P, M): the patterns that training rows can show when some of what they have is hidden."""
    modalities = presence.shape[1]
    presence = np.unique(presence[presence.any(axis=1)], axis=0)
    if modalities > MOST:
        return presence
    patterns = all_patterns(modalities)
    able = np.asarray((presence[None] | ~patterns[:, None]).all(axis=2))
    return patterns[able.any(axis=1)]


def fitted_to(fitted: Fitted) -> dict[str, Any]:
    """What was fitted as JSON, with the fingerprints of pretrained encoders and of a pretrained backbone."""
    return {
        "schema": fitted.schema.to_json(),
        "target": fitted.codec.to_json(),
        "decoders": {name: decoder.state() for name, decoder in fitted.decoders.items()},
        "encoders": fitted.fingerprints(),
        "backbone": fitted.backbone.describe() if fitted.backbone else None,
    }


def fitted_from(state: Mapping[str, Any]) -> Fitted:
    """What `fitted_to` described; raises `UserError` when something pretrained is not that of the run."""
    schema = Schema.from_json(state["schema"])
    codec = TargetCodec.from_json(schema.target, state["target"]) if schema.target else NO_TARGET
    if state.get("backbone"):
        backbone = same_backbone(state["backbone"])
        decoders, encoders = backbone.fitted_for(schema)
        return Fitted(schema=schema, codec=codec, decoders=decoders, encoders=encoders, backbone=backbone)
    decoders = {name: restored_decoder(kind, state["decoders"][name]) for name, kind in schema.modalities.items()}
    encoders = known_encoders(schema, decoders, state["encoders"], "the run was trained")
    return Fitted(schema=schema, codec=codec, decoders=decoders, encoders=encoders)

"""A method from what was fitted and the run's settings: the same for a fresh training and for loading a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from absentia.config import Model
from absentia.data.kinds.pretrained import PretrainedDecoder
from absentia.data.schema import Schema
from absentia.data.target import TargetCodec
from absentia.errors import UserError
from absentia.layers.subsets import all_patterns
from absentia.learn.draws import number_of
from absentia.learn.prepare import Fitted, frozen_encoders
from absentia.methods import method_named
from absentia.methods.base import Method, Parts
from absentia.models.backbone import FusedBackbone
from absentia.models.encoders import Embedder, embedder_for
from absentia.models.encoders.pretrained import FeatureEmbedder, PretrainedEncoder, TunedEmbedder
from absentia.models.fused import FusedTransformer

__all__ = ["build_method", "fitted_from", "fitted_to", "patterns_seen"]

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
    """A fresh method; the same seed gives the same weights.

    `seen` is bool (P, M), see `patterns_seen`; `options` are the method's own settings.
    """

    def backbone(number: int = 0) -> FusedBackbone:
        torch.manual_seed(number_of(seed, "backbone", number))
        return _backbone(fitted, model)

    state = torch.get_rng_state()
    try:
        torch.manual_seed(number_of(seed, "method", name))
        parts = Parts(
            names=fitted.schema.names,
            codec=fitted.codec,
            backbone=backbone,
            blanks=fitted.blanks(),
            seen=seen,
            dropout=model.dropout,
            options=options or {},
        )
        return method_named(name)(parts=parts)
    finally:
        torch.set_rng_state(state)


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
    """What was fitted as JSON, with the fingerprints of pretrained encoders."""
    return {
        "schema": fitted.schema.to_json(),
        "target": fitted.codec.to_json(),
        "decoders": {name: decoder.state() for name, decoder in fitted.decoders.items()},
        "encoders": {name: frozen.encoder.fingerprint() for name, frozen in fitted.encoders.items()},
    }


def fitted_from(state: Mapping[str, Any]) -> Fitted:
    """What `fitted_to` described; raises `UserError` when a pretrained encoder is not the one of the run."""
    schema = Schema.from_json(state["schema"])
    assert schema.target is not None
    decoders = {}
    for name, kind in schema.modalities.items():
        saved = state["decoders"][name]
        pretrained = "pretrained" in saved
        decoders[name] = (
            PretrainedDecoder(kind=kind.kind, source=saved["pretrained"]) if pretrained else kind.restore(saved)
        )
    encoders = frozen_encoders(schema, decoders)
    for name, frozen in encoders.items():
        if frozen.encoder.fingerprint() != state["encoders"].get(name):
            raise UserError(
                f"encoder {frozen.encoder.source!r} of {name!r} has changed since the run was trained; "
                "put the old one back, or train again"
            )
    codec = TargetCodec.from_json(schema.target, state["target"])
    return Fitted(schema=schema, codec=codec, decoders=decoders, encoders=encoders)


def _backbone(fitted: Fitted, model: Model) -> FusedBackbone:
    embedders = {name: _embedder(name, fitted, model.width) for name in fitted.schema.names}
    transformer = FusedTransformer(
        width=model.width,
        depth=model.depth,
        heads=model.heads,
        mlp=model.mlp * model.width,
        dropout=model.dropout,
    )
    return FusedBackbone(embedders=embedders, transformer=transformer)


def _embedder(name: str, fitted: Fitted, width: int) -> Embedder:
    decoder = fitted.decoders[name]
    if name in fitted.encoders:
        return FeatureEmbedder(width=width, features=fitted.encoders[name].encoder.width)
    if isinstance(decoder, PretrainedDecoder):
        return TunedEmbedder(width=width, encoder=PretrainedEncoder(kind=decoder.kind, source=decoder.source))
    return embedder_for(decoder, width=width)

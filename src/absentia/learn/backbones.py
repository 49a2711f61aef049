"""The folder of a pretrained backbone: config.json and model.safetensors, written once and read strictly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from absentia import __version__
from absentia.config import Model, config_from, config_to
from absentia.data.kinds import Decoder, Kind
from absentia.data.kinds.pretrained import PretrainedDecoder
from absentia.data.kinds.volume import VolumeDecoder
from absentia.data.schema import Schema
from absentia.errors import UserError
from absentia.learn.folder import RunFolder, load_tensors, save_tensors, sha256_of
from absentia.learn.prepare import Fitted, frozen_encoders, pretrained_encoder, tuned_fingerprints
from absentia.learn.pretrained import Pretrained, PretrainedFused
from absentia.learn.pretrained_dense import PretrainedDense
from absentia.learn.vilt import open_vilt
from absentia.models.backbone import FusedBackbone
from absentia.models.checkpoints import FILES, checkpoint_folder
from absentia.models.dense import DenseBackbone
from absentia.models.encoders import embedder_for
from absentia.models.encoders.pretrained import FeatureEmbedder, FrozenEncoder, TunedEmbedder
from absentia.models.fused import FusedTransformer
from absentia.models.tuning import tune

__all__ = [
    *("backbone_of", "blank_backbone", "blank_network", "known_encoders", "open_backbone", "restored_decoder"),
    *("same_backbone", "save_backbone"),
]

FORMAT = "absentia-backbone-1"
CONFIG, WEIGHTS = FILES
KEYS = ("modalities", "decoders", "encoders", "model", "saw")
BESIDE = "beside."  # before the names of what a dense network's pretraining learned beside it


def save_backbone(
    path: str | Path,
    backbone: FusedBackbone | DenseBackbone,
    fitted: Fitted,
    model: Model,
    saw: Mapping[str, Any],
    beside: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Write the folder of a backbone that learned from rows under `fitted`; returns config.json's content.

    saw: what it was trained on, as JSON.  beside: what was learned beside a dense network.
    """
    folder = RunFolder(path)
    config = {
        "format": FORMAT,
        "absentia": __version__,
        "kind": "dense" if isinstance(backbone, DenseBackbone) else "fused",
        "modalities": {name: kind.describe() for name, kind in fitted.schema.modalities.items()},
        "decoders": {name: decoder.state() for name, decoder in fitted.decoders.items()},
        "encoders": fitted.fingerprints(),
        "model": {key: value for key, value in config_to(model).items() if key not in ("backbone", "freeze")},
        "saw": dict(saw),
    }
    tensors = backbone.state_dict() | {BESIDE + name: tensor for name, tensor in (beside or {}).items()}
    save_tensors(folder.path / WEIGHTS, tensors, {"backbone": _digest(config)})
    folder.write_json(folder.path / CONFIG, config)
    return config


def open_backbone(source: str) -> Pretrained:
    """The backbone in a folder, or on the hub: one of our own, or a ViLT checkpoint.

    Raises `UserError` for what is missing, broken or neither of the two.
    """
    folder = checkpoint_folder(source)
    config = _config(source, folder)
    if config.get("format") == FORMAT:
        return _opened(source, folder, config)
    if config.get("model_type") == "vilt":
        return open_vilt(source, folder)
    raise UserError(
        f"backbone {source!r}: {CONFIG} has format {config.get('format')!r}; "
        f"it must be {FORMAT!r} (made by absentia pretrain), or a ViLT checkpoint"
    )


def backbone_of(model: Model) -> Pretrained | None:
    """The backbone that the settings name, None where they name none; `UserError` for settings it cannot meet."""
    if model.backbone is None:
        return None
    found = open_backbone(model.backbone)
    found.check_model(model)
    return found


def same_backbone(state: Mapping[str, Any]) -> Pretrained:
    """The backbone that `Pretrained.describe` described; raises `UserError` when it is gone or has changed."""
    source = str(state["source"])
    moved = not Path(source).is_dir() and Path(str(state["folder"])).is_dir()
    try:
        found = open_backbone(str(state["folder"]) if moved else source)
    except UserError as error:
        raise UserError(f"the run was made with another backbone than there is now: {error}") from None
    if found.sha256 != state["sha256"]:
        raise UserError(
            f"backbone {source!r} has changed since the run was made with it; put the old one back, or train again"
        )
    return replace(found, source=source, folder=Path(str(state["folder"])))


def blank_backbone(
    schema: Schema, decoders: Mapping[str, Decoder], encoders: Mapping[str, FrozenEncoder], model: Model
) -> FusedBackbone:
    """A backbone with fresh weights for what decoders and frozen encoders give."""
    embedders = {n: _embedder(n, kind, decoders[n], encoders, model.width) for n, kind in schema.modalities.items()}
    transformer = FusedTransformer(
        width=model.width,
        depth=model.depth,
        heads=model.heads,
        mlp=model.mlp * model.width,
        dropout=model.dropout,
    )
    return FusedBackbone(embedders=embedders, transformer=transformer)


def blank_network(decoders: Mapping[str, Decoder], model: Model) -> DenseBackbone:
    """A dense network with fresh weights for what the decoders of volumes give."""
    volumes = [decoder for decoder in decoders.values() if isinstance(decoder, VolumeDecoder)]
    return DenseBackbone(
        channels=[decoder.channels for decoder in volumes],
        dims=volumes[0].dims,
        network=model.network,
        options=model.network_options,
    )


def known_encoders(
    schema: Schema, decoders: Mapping[str, Decoder], fingerprints: Mapping[str, str], since: str
) -> dict[str, FrozenEncoder]:
    """The frozen encoders; raises `UserError` for those, tuned ones too, that have changed `since` then.

    An encoder has changed where its weights are others, or its processor makes something else of a cell.
    """
    encoders = frozen_encoders(schema, decoders)
    now = {name: frozen.fingerprint for name, frozen in encoders.items()} | tuned_fingerprints(schema)
    others = [name for name, found in now.items() if found != fingerprints.get(name) or _otherwise(decoders[name])]
    changed = [f"{schema.modalities[name].encoder!r} of {name!r}" for name in others]
    if changed:
        what, old = ("encoder", "one") if len(changed) == 1 else ("encoders", "ones")
        verb = "has" if len(changed) == 1 else "have"
        raise UserError(
            f"{what} {' and '.join(changed)} {verb} changed since {since}; put the old {old} back, or train again"
        )
    return encoders


def _otherwise(decoder: Decoder) -> bool:
    return isinstance(decoder, PretrainedDecoder) and decoder.changed


def restored_decoder(kind: Kind, state: dict[str, Any]) -> Decoder:
    """A decoder from what its `state` gave."""
    if "pretrained" in state:
        return PretrainedDecoder(kind=kind.kind, source=state["pretrained"], before=state.get("prepares"))
    return kind.restore(state)


def _opened(source: str, folder: Path, config: Mapping[str, Any]) -> Pretrained:
    lost = [key for key in KEYS if not isinstance(config.get(key), dict)]
    if lost:
        raise UserError(f"backbone {source!r}: {CONFIG} has no {' and no '.join(lost)}")
    tensors, about = load_tensors(folder / WEIGHTS)
    if about.get("backbone") != _digest(config):
        raise UserError(f"backbone {source!r}: {WEIGHTS} belongs to another {CONFIG}; the two must stay together")
    schema = Schema.from_json({"modalities": config["modalities"]})
    decoders = {name: restored_decoder(kind, config["decoders"][name]) for name, kind in schema.modalities.items()}
    known: dict[str, Any] = {
        "source": source,
        "folder": folder.resolve(),
        "sha256": sha256_of(folder, FILES),
        "kinds": schema.modalities,
        "decoders": decoders,
        "saw": config["saw"],
    }
    model = config_from(Model, config["model"])
    if config.get("kind") == "dense":
        return _dense(known, model, tensors)
    encoders = known_encoders(schema, decoders, config["encoders"], f"backbone {source!r} was made")
    with torch.random.fork_rng(devices=[]):
        backbone = blank_backbone(schema, decoders, encoders, model)
    _fill(backbone, tensors, source)
    return PretrainedFused(backbone=backbone, encoders=encoders, sizes=backbone.transformer.sizes, **known)


def _dense(known: Mapping[str, Any], model: Model, tensors: Mapping[str, Tensor]) -> PretrainedDense:
    with torch.random.fork_rng(devices=[]):
        network = blank_network(known["decoders"], model)
    _fill(network, {key: x for key, x in tensors.items() if not key.startswith(BESIDE)}, known["source"])
    learned = {key.removeprefix(BESIDE): x for key, x in tensors.items() if key.startswith(BESIDE)}
    sizes = {"network": network.network, "options": model.network_options, "channels": list(network.channels)}
    return PretrainedDense(backbone=network, learned=learned, sizes=sizes, **known)


def _fill(backbone: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    expected = backbone.state_dict()
    wrong = sorted(expected.keys() ^ tensors.keys())
    wrong += [k for k in sorted(expected.keys() & tensors.keys()) if not _alike(expected[k], tensors[k])]
    if wrong:
        raise UserError(
            f"backbone {source!r}: {WEIGHTS} does not fit {CONFIG}: {len(wrong)} tensors are missing, extra or "
            f"of another shape or type, first {wrong[0]!r}"
        )
    backbone.load_state_dict(dict(tensors))


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _config(source: str, folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"backbone {source!r} has no {CONFIG}: has its pretraining ended?") from None
    except (OSError, ValueError) as error:
        raise UserError(f"backbone {source!r}: {CONFIG} is not readable JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"backbone {source!r}: {CONFIG} holds no JSON object")
    return content


def _digest(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _embedder(name: str, kind: Kind, decoder: Decoder, encoders: Mapping[str, FrozenEncoder], width: int) -> nn.Module:
    if name in encoders:
        return FeatureEmbedder(width=width, features=encoders[name].encoder.width)
    if not isinstance(decoder, PretrainedDecoder):
        return embedder_for(decoder, width=width)
    encoder = pretrained_encoder(kind)
    if isinstance(kind.tune, str):
        tune(encoder, kind.tune, encoder.source)
    return TunedEmbedder(width=width, encoder=encoder, settled=isinstance(kind.tune, str))

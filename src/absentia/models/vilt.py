"""ViLT: its embedders and the fused transformer, read from and written to the Hugging Face checkpoint format.

With both modalities present this is ViLT to rounding. Where ViLT needs a blank picture or an empty text, here
is nothing: the tokens of the absent modality, its [CLS] included, do not exist, and the others attend to
each other alone. Patches are never drawn at random; all that are not padding take part.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import ViltConfig

from absentia.errors import UserError
from absentia.models.checkpoints import FILES, checkpoint_folder
from absentia.models.encoders.vilt import ViltImageEmbedder, ViltTextEmbedder
from absentia.models.fused import Block, FusedTransformer
from absentia.models.vilt_names import backbone_of, from_theirs, to_theirs

__all__ = ["Vilt", "ViltImageEmbedder", "ViltTextEmbedder", "build_vilt", "from_vilt", "save_vilt", "side_of"]

BERT_CLS = 101


class Vilt(NamedTuple):
    """The parts of ViLT. The pooler (linear, tanh) reads the text [CLS]; some checkpoints have none."""

    embedders: dict[str, nn.Module]
    transformer: FusedTransformer
    pooler: nn.Module | None

    def parts(self) -> nn.ModuleDict:
        """All of it as one module, by the names text, image, transformer and pooler."""
        parts = {**self.embedders, "transformer": self.transformer}
        return nn.ModuleDict(parts if self.pooler is None else {**parts, "pooler": self.pooler})


def from_vilt(
    source: str | Path,
    *,
    revision: str | None = None,
    text_positions: int | None = None,
    freeze: bool = False,
) -> Vilt:
    """Read a ViLT checkpoint: a folder with config.json and model.safetensors, or a name on the hub.

    Checkpoints of `ViltModel` and of the models with a head are understood; the head is left behind.
    `text_positions` makes room for so many word pieces (published checkpoints have 40). All weights become
    float32; with `freeze` none of them learns. Raises UserError if there is no checkpoint or it does not fit.
    """
    folder = _folder(source, revision)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{source}: the checkpoint cannot be read: {error}") from None
    vilt = build_vilt(config, tensors, cls_id=_cls_id(folder), name=str(source))
    if text_positions is not None:
        vilt.embedders["text"].stretch_positions(text_positions)  # type: ignore[operator]
    if freeze:
        vilt.parts().requires_grad_(False)
    return vilt


def build_vilt(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    cls_id: int = BERT_CLS,
    name: str = "checkpoint",
) -> Vilt:
    """ViLT from the settings and the tensors of a Hugging Face checkpoint.

    `cls_id` is the number of the tokenizer's [CLS]. Raises UserError that names what does not fit.
    """
    if config.get("model_type") != "vilt" or config.get("hidden_act", "gelu") != "gelu":
        raise UserError(f"{name}: config.json is not that of a ViLT with the activation gelu")
    tensors = backbone_of(tensors)
    with torch.device("meta"):  # the weights come from the checkpoint, the random numbers stay unused
        vilt = _blank(ViltConfig(**config), cls_id, pooler="pooler.dense.weight" in tensors)
    parts = vilt.parts()
    parts.load_state_dict(from_theirs(tensors, parts.state_dict(), name), assign=True)
    return vilt


def save_vilt(vilt: Vilt, folder: str | Path) -> None:
    """Write config.json and model.safetensors as `transformers.ViltModel` reads them (but no tokenizer)."""
    tensors = to_theirs(vilt.parts().state_dict())
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_config(vilt), indent=2) + "\n", encoding="utf-8")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _folder(source: str | Path, revision: str | None) -> Path:
    """The folder of a checkpoint, fetched from the hub if it is not one already."""
    folder = checkpoint_folder(source, revision)
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise UserError(
            f"{source}: no {' and no '.join(missing)}; older checkpoints are converted by "
            "transformers: ViltModel.from_pretrained(...).save_pretrained(...)"
        )
    return folder


def _cls_id(folder: Path) -> int:
    """The number of [CLS] by the tokenizer beside the weights; without one, that of BERT."""
    words, tokenizer = folder / "vocab.txt", folder / "tokenizer.json"
    if tokenizer.is_file():
        vocabulary = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]["vocab"]
        return int(vocabulary.get("[CLS]", BERT_CLS))
    if words.is_file():
        lines = words.read_text(encoding="utf-8").split("\n")
        return lines.index("[CLS]") if "[CLS]" in lines else BERT_CLS
    return BERT_CLS


def _blank(config: ViltConfig, cls_id: int, pooler: bool) -> Vilt:
    """All modules at the sizes of the settings."""
    width, eps, dropout = config.hidden_size, config.layer_norm_eps, float(config.hidden_dropout_prob)
    if not 0 <= cls_id < config.vocab_size:
        raise UserError(f"[CLS] is word piece {cls_id}, but the checkpoint knows only {config.vocab_size}")
    text = ViltTextEmbedder(
        width=width,
        vocabulary=config.vocab_size,
        positions=config.max_position_embeddings,
        kinds=config.type_vocab_size,
        cls_id=cls_id,
        eps=eps,
        dropout=dropout,
    )
    image = ViltImageEmbedder(
        width=width,
        image_size=side_of(config.image_size),
        patch=side_of(config.patch_size),
        channels=config.num_channels,
        dropout=dropout,
    )
    transformer = FusedTransformer(
        width=width,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        mlp=config.intermediate_size,
        eps=eps,
        dropout=dropout,
    )
    layers = OrderedDict(dense=nn.Linear(width, width), tanh=nn.Tanh())
    return Vilt({"text": text, "image": image}, transformer, nn.Sequential(layers) if pooler else None)


def side_of(size: int | list[int] | tuple[int, int]) -> int:
    """The one length of a square; raises `UserError` for what is none."""
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise UserError(f"pictures and patches of a ViLT are square, not {size}")
    return sides.pop()


def _config(vilt: Vilt) -> dict[str, Any]:
    """The settings from which the same modules are built again."""
    text, image, transformer = vilt.embedders["text"], vilt.embedders["image"], vilt.transformer
    block = transformer.blocks[0]
    assert isinstance(text, ViltTextEmbedder) and isinstance(image, ViltImageEmbedder)
    assert isinstance(block, Block)
    return {
        "architectures": ["ViltModel"],
        "model_type": "vilt",
        "hidden_act": "gelu",
        "hidden_size": transformer.width,
        "num_hidden_layers": len(transformer.blocks),
        "num_attention_heads": transformer.heads,
        "intermediate_size": block.widen.out_features,
        "layer_norm_eps": transformer.norm.eps,
        "hidden_dropout_prob": block.dropout.p,
        "vocab_size": text.words.num_embeddings,
        "type_vocab_size": text.kinds.num_embeddings,
        "max_position_embeddings": text.positions.num_embeddings,
        "image_size": image.side * image.patch,
        "patch_size": image.patch,
        "num_channels": image.patches.in_channels,
    }

"""The names that parameters of ViLT have here and in a Hugging Face checkpoint, and the way between them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from absentia.errors import UserError

__all__ = ["backbone_of", "from_theirs", "to_theirs"]

MODULES = {
    "text.words": "embeddings.text_embeddings.word_embeddings",
    "text.positions": "embeddings.text_embeddings.position_embeddings",
    "text.kinds": "embeddings.text_embeddings.token_type_embeddings",
    "text.norm": "embeddings.text_embeddings.LayerNorm",
    "image.patches": "embeddings.patch_embeddings.projection",
    "transformer.norm": "layernorm",
    "pooler.dense": "pooler.dense",
}
IN_BLOCK = {
    "norm_attention": "layernorm_before",
    "query": "attention.attention.query",
    "key": "attention.attention.key",
    "value": "attention.attention.value",
    "out": "attention.output.dense",
    "norm_mlp": "layernorm_after",
    "widen": "intermediate.dense",
    "narrow": "output.dense",
}
PARAMETERS = {
    "image.cls_token": "embeddings.cls_token",
    "image.positions": "embeddings.position_embeddings",
}
TYPES = "embeddings.token_type_embeddings.weight"
TYPE_ROWS = {"text.modality_type": 0, "image.modality_type": 1}
HEADS = ("mlm_score.", "classifier.", "rank_output.")  # what a checkpoint was used for is left behind
OLD_BUFFERS = {"embeddings.text_embeddings.position_ids"}


def backbone_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the backbone alone, without the prefix they have under a head."""
    prefixed = any(key.startswith("vilt.") for key in tensors)
    kept = {k.removeprefix("vilt."): t for k, t in tensors.items() if not (prefixed and k.startswith(HEADS))}
    return {key: tensor for key, tensor in kept.items() if key not in OLD_BUFFERS}


def from_theirs(theirs: Mapping[str, Tensor], blank: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Copies of their tensors under our names, float32, for the parameters of `blank`.

    Raises UserError, with `name` in front, that says what is missing, unknown or of another shape.
    """
    found: dict[str, Tensor] = {}
    wrong: list[str] = []
    for key, like in blank.items():
        tensor = theirs.get(_theirs(key))
        if tensor is not None and key in TYPE_ROWS:
            tensor = tensor[TYPE_ROWS[key]]
        if tensor is None or tensor.shape != like.shape:
            what = "is missing" if tensor is None else f"is {tuple(tensor.shape)}, not {tuple(like.shape)}"
            wrong.append(f"{_theirs(key)} {what}")
        else:
            found[key] = tensor.to(torch.float32, copy=True)
    wrong += [f"{key} is not known" for key in sorted(set(theirs) - {_theirs(key) for key in blank})]
    if wrong:
        more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise UserError(f"{name}: the tensors are not those of a ViLT: {'; '.join(wrong[:5])}{more}")
    return found


def to_theirs(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under their names."""
    tensors = {_theirs(key): tensor.contiguous() for key, tensor in ours.items() if key not in TYPE_ROWS}
    return {**tensors, TYPES: torch.stack([ours[key] for key in TYPE_ROWS])}


def _theirs(key: str) -> str:
    """Our name of a parameter as the checkpoint has it."""
    if key in TYPE_ROWS:
        return TYPES
    if key in PARAMETERS:
        return PARAMETERS[key]
    module, _, kind = key.rpartition(".")
    if module.startswith("transformer.blocks."):
        _, _, layer, part = module.split(".")
        return f"encoder.layer.{layer}.{IN_BLOCK[part]}.{kind}"
    return f"{MODULES[module]}.{kind}"

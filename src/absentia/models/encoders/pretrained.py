"""Pretrained unimodal encoders of the Hugging Face hub: frozen (features once) or tuned with the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from absentia.data.kinds import Value
from absentia.data.kinds.pretrained import PretrainedDecoder
from absentia.errors import UserError
from absentia.models.encoders.base import Embedder

__all__ = ["FeatureEmbedder", "FrozenEncoder", "PretrainedEncoder", "TunedEmbedder"]


class PretrainedEncoder(nn.Module):
    """Any `AutoModel`: a vision transformer, a convolutional network, a text or a sound encoder.

    `source` is a hub name or a folder. Of models with two towers the tower of `kind` is taken.
    """

    def __init__(self, *, kind: str, source: str) -> None:
        super().__init__()
        self.kind, self.source = kind, source
        self.model = _tower(_loaded(source), kind)

    @property
    def width(self) -> int:
        """Features per token."""
        config = self.model.config
        sizes = (getattr(config, key, None) for key in ("hidden_size", "d_model", "hidden_sizes"))
        size: Any = next((s for s in sizes if s), None)
        return int((size[-1] if isinstance(size, (list, tuple)) else size) or self._probed())

    def forward(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (n, T, d) and where they are real, bool (n, T)."""
        out = self.model(**inputs).last_hidden_state
        tokens = out.flatten(2).transpose(1, 2) if out.dim() == 4 else out
        mask = inputs.get("attention_mask")
        if mask is None or mask.shape != tokens.shape[:2]:
            return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return tokens, mask.bool()

    def pooled(self, **inputs: Tensor) -> Tensor:
        """One vector per row (n, d): the [CLS] of a vision transformer, else the mean of the real tokens."""
        tokens, valid = self(**inputs)
        if self.kind == "image" and hasattr(self.model.config, "num_attention_heads"):
            return tokens[:, 0]  # type: ignore[no-any-return]
        weight = valid[..., None].to(tokens.dtype)
        return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)  # type: ignore[no-any-return]

    def fingerprint(self) -> str:
        """SHA-256 over names and values of all parameters."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
        return digest.hexdigest()

    def _probed(self) -> int:
        size = getattr(self.model.config, "image_size", 64)
        with torch.no_grad():
            return int(self(pixel_values=torch.zeros(1, 3, size, size))[0].shape[-1])


class FrozenEncoder:
    """Decoded values to one feature vector each, `{"features": float32 (1, d)}`; nothing is learned."""

    def __init__(self, *, encoder: PretrainedEncoder, decoder: PretrainedDecoder) -> None:
        self.encoder, self.decoder = encoder.eval().requires_grad_(False), decoder

    @torch.inference_mode()
    def __call__(self, values: list[Value]) -> list[Value]:
        order = sorted(range(len(values)), key=lambda i: sum(a.size for a in values[i].values()))
        features: dict[int, Value] = {}
        for i in _alike(order, values):
            inputs = {k: torch.from_numpy(a) for k, a in self.decoder.collate([values[j] for j in i]).items()}
            for j, row in zip(i, self.encoder.pooled(**inputs), strict=True):
                features[j] = {"features": row[None].numpy()}
        return [features[i] for i in range(len(values))]


class FeatureEmbedder(Embedder):
    """Features (n, T, d) of a frozen encoder to as many tokens."""

    def __init__(self, *, width: int, features: int) -> None:
        super().__init__(width=width)
        self.project = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, width))

    def embed(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.project(inputs["features"].to(self.cls_token.dtype)), inputs["mask"]


class TunedEmbedder(Embedder):
    """A pretrained encoder that learns with the rest: all its tokens."""

    def __init__(self, *, width: int, encoder: PretrainedEncoder) -> None:
        super().__init__(width=width)
        self.encoder = encoder
        self.project = nn.Sequential(nn.LayerNorm(encoder.width), nn.Linear(encoder.width, width))

    def embed(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        tokens, valid = self.encoder(**inputs)
        return self.project(tokens), valid


def _alike(order: Sequence[int], values: Sequence[Value]) -> list[list[int]]:
    """Neighbours in `order` with the same shapes, so that features do not depend on who shares the batch."""
    groups: list[list[int]] = []
    for i in order:
        shapes = {k: a.shape for k, a in values[i].items()}
        if groups and shapes == {k: a.shape for k, a in values[groups[-1][0]].items()}:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _loaded(source: str) -> Any:
    from transformers import AutoModel

    try:
        return AutoModel.from_pretrained(source)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"encoder {source!r} cannot be loaded: {first}") from None


def _tower(model: Any, kind: str) -> Any:
    """The part of a model with several towers that reads this kind; an encoder alone is itself."""
    for name in {"image": ["vision_model"], "text": ["text_model"], "audio": ["audio_model", "encoder"]}[kind]:
        if hasattr(model, name) and (name != "encoder" or hasattr(model, "decoder")):
            return getattr(model, name)
    return model

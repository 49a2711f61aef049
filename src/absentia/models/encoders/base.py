"""What every embedder does: turn the present inputs of one modality into tokens behind a [CLS] of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

__all__ = ["Embedder", "learned_vector"]


class Embedder(nn.Module, ABC):
    """Tokens of one modality: [CLS], then what `content` gives at its places, each with the modality's type."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.width = width
        self.cls_token = learned_vector(width)
        self.modality_type = learned_vector(width)

    @abstractmethod
    def content(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Collated inputs of n rows as tokens (n, T, D) without their places, and where they are real, bool (n, T)."""

    def places(self, count: int) -> Tensor | None:
        """What tells `count` tokens of a row apart (T, D); None where their content is all there is."""
        return None

    def forward(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (n, 1 + T, D) with the [CLS] first, and where they are real, bool (n, 1 + T)."""
        return self.placed(*self.content(**inputs))

    def placed(self, tokens: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """The contents (n, T, D) at their places, behind the [CLS]: (n, 1 + T, D) and bool (n, 1 + T)."""
        n, count, _ = tokens.shape
        places = self.places(count)
        tokens = tokens if places is None else tokens + places
        tokens = torch.cat([self.cls_token.expand(n, 1, self.width), tokens], dim=1) + self.modality_type
        return tokens, torch.cat([valid.new_ones(n, 1), valid], dim=1)

    def cls(self) -> Tensor:
        """The [CLS] embedding alone (D,): all that an absent modality may contribute."""
        return self.cls_token + self.modality_type


def learned_vector(*shape: int) -> nn.Parameter:
    """A parameter of normal(0, 0.02) numbers, as embeddings start."""
    return nn.Parameter(torch.randn(*shape) * 0.02)

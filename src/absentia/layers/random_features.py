"""Random features: a fixed random projection and a ReLU, which tell more apart linearly (RanPAC, arXiv 2307.02251)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["RandomFeatures"]

SEED = 2307_02251  # the projection is part of the method, the same in every run


class RandomFeatures(nn.Module):
    """(B, D) to (B, F): F random features, or with `size` 0 the features as they are. Nothing of it is kept."""

    def __init__(self, *, width: int, size: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(SEED)
        projection = torch.randn(width, size, generator=draw) / width**0.5 if size else None
        self.register_buffer("projection", projection, persistent=False)
        self.projection: Tensor | None
        self.size = size or width

    def forward(self, features: Tensor) -> Tensor:
        return features if self.projection is None else F.relu(features @ self.projection.to(features))

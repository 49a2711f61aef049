"""A small convolutional stem for volumes and planes, where what is asked is about the whole and not about voxels."""

from __future__ import annotations

import itertools
import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.data.kinds.volume import VolumeDecoder
from absentia.models.encoders.base import Embedder, learned_vector

__all__ = ["VolumeEmbedder"]

MOST = {2: 8, 3: 4}  # tokens along each axis, by the number of axes


class VolumeEmbedder(Embedder):
    """Voxels (n, C, *space), 0 to 1, to at most 64 tokens: each side is halved until few are left."""

    def __init__(self, *, width: int, decoder: VolumeDecoder) -> None:
        super().__init__(width=width)
        most = MOST[decoder.dims]
        halvings = max(1, math.ceil(math.log2(max(decoder.space) / most)))
        channels = [decoder.channels, *(max(4, width >> i) for i in reversed(range(halvings)))]
        self.stem = nn.Sequential(*(_Halving(a, b, decoder.dims) for a, b in itertools.pairwise(channels)))
        tokens = math.prod(-(-side // 2**halvings) for side in decoder.space)
        self.position = learned_vector(tokens, width)

    def content(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.stem(inputs["voxels"].to(self.position.dtype) * 2 - 1).flatten(2).transpose(1, 2)
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)

    def places(self, count: int) -> Tensor:
        return self.position


class _Halving(nn.Module):
    """Half of every side with a convolution, then another one beside a shortcut."""

    def __init__(self, before: int, after: int, dims: int) -> None:
        super().__init__()
        kind = nn.Conv3d if dims == 3 else nn.Conv2d
        self.shrink = kind(before, after, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(1, after)
        self.look = kind(after, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shrink(x)
        return cast(Tensor, x + self.look(F.gelu(self.norm(x))))

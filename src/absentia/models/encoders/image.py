"""A small convolutional stem: pictures become one token for every 8 x 8 pixels."""

from __future__ import annotations

import itertools
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.data.kinds.image import ImageDecoder
from absentia.models.encoders.base import Embedder, learned_vector

__all__ = ["ImageEmbedder"]

STRIDE = 8


class ImageEmbedder(Embedder):
    """Pixels uint8 (n, C, H, W) to ceil(H / 8) ceil(W / 8) tokens."""

    def __init__(self, *, width: int, decoder: ImageDecoder) -> None:
        super().__init__(width=width)
        self.channels = decoder.channels
        half = width // 2
        channels = (decoder.channels, half // 2, half, width)
        self.stem = nn.Sequential(*(_Halving(a, b) for a, b in itertools.pairwise(channels)))
        height, across = decoder.size
        self.position = learned_vector(-(-height // STRIDE) * -(-across // STRIDE), width)

    def content(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        pixels = inputs["pixels"].to(self.position.dtype) / 127.5 - 1
        tokens = self.stem(pixels).flatten(2).transpose(1, 2)  # (n, T, D)
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)

    def places(self, count: int) -> Tensor:
        return self.position


class _Halving(nn.Module):
    """Half the height and width with a convolution, then another one beside a shortcut."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.shrink = nn.Conv2d(before, after, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(1, after)
        self.look = nn.Conv2d(after, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shrink(x)
        return cast(Tensor, x + self.look(F.gelu(self.norm(x))))

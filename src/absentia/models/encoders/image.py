"""A small convolutional stem: pictures become one token for every 8 x 8 pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from absentia.data.kinds.image import ImageDecoder
from absentia.models.encoders.base import Embedder, learned_vector

__all__ = ["ImageEmbedder"]

STRIDE = 8


class ImageEmbedder(Embedder):
    """Pixels uint8 (n, C, H, W) to ceil(H / 8) ceil(W / 8) tokens."""

    def __init__(self, *, width: int, decoder: ImageDecoder) -> None:
        super().__init__(width=width)
        half = width // 2
        self.stem = nn.Sequential(
            nn.Conv2d(decoder.channels, half // 2, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(half // 2, half, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(half, width, 3, stride=2, padding=1),
        )
        height, across = decoder.size
        self.position = learned_vector(-(-height // STRIDE) * -(-across // STRIDE), width)

    def embed(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        pixels = inputs["pixels"].to(self.position.dtype) / 127.5 - 1
        tokens = self.stem(pixels).flatten(2).transpose(1, 2) + self.position  # (n, T, D)
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)

"""Windows of consecutive steps as tokens: series and the spectrograms of sounds."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.data.kinds.series import SteppedDecoder
from absentia.models.encoders.base import Embedder

__all__ = ["SeriesEmbedder"]


class SeriesEmbedder(Embedder):
    """Steps float (n, T, C) with mask (n, T) to ceil(T / patch) tokens; any length.

    Two convolutions look at neighbouring steps, then each window of `patch` steps becomes one token.
    """

    def __init__(self, *, width: int, decoder: SteppedDecoder) -> None:
        super().__init__(width=width)
        self.patch = decoder.patch
        self.local = nn.Conv1d(decoder.channels, width, kernel_size=5, padding=2)
        self.window = nn.Linear(self.patch * width, width)

    def content(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        steps, mask = self._whole_windows(inputs["steps"].to(self.window.weight.dtype), inputs["mask"])
        local = F.gelu(self.local(steps.transpose(1, 2))).transpose(1, 2) * mask[..., None]  # (n, T, D)
        n, t, d = local.shape
        tokens = self.window(local.reshape(n, t // self.patch, self.patch * d))
        valid = mask.reshape(n, t // self.patch, self.patch).any(dim=2)
        return tokens, valid

    def places(self, count: int) -> Tensor:
        return _waves(count, self.width).to(self.cls_token)

    def _whole_windows(self, steps: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        short = -steps.shape[1] % self.patch
        return F.pad(steps.masked_fill(~mask[..., None], 0), (0, 0, 0, short)), F.pad(mask, (0, short))


def _waves(length: int, width: int) -> Tensor:
    """Sine and cosine positions (T, D), small like the other embeddings; they reach as far as any series."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(length)[:, None] * rates
    return 0.1 * torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]

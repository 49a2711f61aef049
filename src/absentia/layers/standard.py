"""Vectors seen from the mean of those that were added, in units of their standard deviation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Standard"]

SMALLEST = 1e-6  # a channel that hardly varies is not blown up


class Standard(nn.Module):
    """Vectors (B, M, D) of M kinds to the same, each channel centred and scaled by what was added of its kind."""

    def __init__(self, *, count: int, width: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(count, 1, dtype=torch.float64))
        self.register_buffer("total", torch.zeros(count, width, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(count, width, dtype=torch.float64))
        self.count: Tensor
        self.total: Tensor
        self.squares: Tensor

    def forward(self, values: Tensor) -> Tensor:
        count = self.count.clamp(min=1)
        mean = self.total / count
        spread = (self.squares / count - mean.square()).clamp(min=SMALLEST**2).sqrt()
        spread = torch.where(self.count > 0, spread, 1.0)
        return (values - mean.to(values)) / spread.to(values)

    @torch.no_grad()
    def add(self, values: Tensor, there: Tensor) -> None:
        """Vectors (B, M, D), where `there`, bool (B, M)."""
        known = values.double() * there[..., None]
        self.count += there.sum(dim=0)[:, None]
        self.total += known.sum(dim=0)
        self.squares += known.square().sum(dim=0)

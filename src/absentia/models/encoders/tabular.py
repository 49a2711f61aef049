"""Columns as tokens: each number, vector and category of a tabular modality is one token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from absentia.data.kinds.tabular import TabularDecoder
from absentia.models.encoders.base import Embedder, learned_vector

__all__ = ["TabularEmbedder"]


class TabularEmbedder(Embedder):
    """Numbers float (n, F), holes bool (n, F) and categories long (n, C) to one token per column.

    A hole adds a learned vector of its column, in proportion to the share of the column's numbers that is missing.
    """

    def __init__(self, *, width: int, decoder: TabularDecoder) -> None:
        super().__init__(width=width)
        self.sizes = decoder.numbers
        self.numeric = nn.ModuleList(_column(size, width) for size in self.sizes)
        self.hole = learned_vector(len(self.sizes), width)
        self.category = nn.ModuleList(_categories(size, width) for size in decoder.category_sizes)
        self.position = learned_vector(len(self.sizes) + len(self.category), width)

    def content(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        numbers = torch.split(inputs["numbers"].to(self.position.dtype), self.sizes, dim=1)
        holes = torch.split(inputs["holes"].to(self.position.dtype), self.sizes, dim=1)
        tokens = [
            column(x) + h.mean(dim=1, keepdim=True) * self.hole[i]
            for i, (column, x, h) in enumerate(zip(self.numeric, numbers, holes, strict=True))
        ]
        tokens += [table(inputs["categories"][:, i]) for i, table in enumerate(self.category)]
        stacked = torch.stack(tokens, dim=1)
        return stacked, torch.ones(stacked.shape[:2], dtype=torch.bool, device=stacked.device)

    def places(self, count: int) -> Tensor:
        return self.position


def _categories(size: int, width: int) -> nn.Embedding:
    table = nn.Embedding(size, width)
    nn.init.normal_(table.weight, std=0.02)
    return table


def _column(size: int, width: int) -> nn.Module:
    """A number is scaled along one direction; a vector goes through a small network."""
    if size == 1:
        return nn.Linear(1, width)
    return nn.Sequential(nn.Linear(size, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

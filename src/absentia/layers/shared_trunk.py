"""One network for the embeddings of any modality: [Linear, norm, ReLU, dropout] a few times, then unit length.

The block of SBNet (arXiv 2303.06129, released code). With its batch norm the running statistics are those of whatever
modality came last; a norm of each row, or statistics of each modality under shared weights, do not have that fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.layers.exactly import exact
from absentia.layers.naming import module_key

__all__ = ["NORMS", "Norm", "Trunk"]

Norm = Literal["layer", "batch", "modality"]
NORMS = ("layer", "batch", "modality")


class Trunk(nn.Module):
    """Embeddings by modality, (n_m, C) each, to unit vectors (n_m, D).

    norm: layer (each row by itself), batch (all modalities together, as published) or modality (batch statistics of
    each modality, everything learned shared).  depth: blocks.
    """

    def __init__(
        self, *, inputs: int, width: int, depth: int, names: Sequence[str], norm: Norm, dropout: float
    ) -> None:
        super().__init__()
        sizes = [inputs, *[width] * depth]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(_norm(norm, width, names) for _ in range(depth))
        self.dropout = nn.Dropout(dropout)
        for linear in self.linears:
            nn.init.xavier_uniform_(linear.weight)  # type: ignore[arg-type]
            nn.init.constant_(linear.bias, 0.01)  # type: ignore[arg-type]

    def forward(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All modalities in one pass; the order of the mapping changes no row."""
        sizes = {name: len(part) for name, part in parts.items()}
        x = torch.cat(list(parts.values()))
        for linear, norm in zip(self.linears, self.norms, strict=True):
            x = linear(x)
            x = norm(x, sizes) if isinstance(norm, ModalityNorm) else norm(x)
            x = self.dropout(F.relu(x))
        units = F.normalize(exact(x), dim=1)
        return dict(zip(sizes, torch.split(units, list(sizes.values())), strict=True))


class ModalityNorm(nn.Module):
    """Batch norm whose scale and shift all modalities share and whose statistics are each one's own."""

    def __init__(self, *, width: int, names: Sequence[str]) -> None:
        super().__init__()
        self.statistics = nn.ModuleDict({module_key(name): LoneBatchNorm(width, affine=False) for name in names})
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, sizes: Mapping[str, int]) -> Tensor:
        """(N, D), the rows of the modalities one after the other, so many of each."""
        pieces = zip(sizes, torch.split(x, list(sizes.values())), strict=True)
        return torch.cat([self.statistics[module_key(name)](part) for name, part in pieces]) * self.weight + self.bias


class LoneBatchNorm(nn.BatchNorm1d):
    """Batch norm that takes a single training row by its running statistics, for one row has no variance."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) < 2:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def _norm(norm: Norm, width: int, names: Sequence[str]) -> nn.Module:
    if norm == "modality":
        return ModalityNorm(width=width, names=names)
    return nn.LayerNorm(width) if norm == "layer" else LoneBatchNorm(width)

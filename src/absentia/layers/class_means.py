"""The means of classes, kept as sums: rows may arrive in any order, in one session or in many.

Nearest class mean on the features of a frozen model (Mensink et al. 2013; Janson et al. 2022, arXiv 2210.04428).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ClassMeans"]


class ClassMeans(nn.Module):
    """Features (B, D) to cosines (B, K) between them and the mean of each class's rows; -1 where a class has none.

    Both are seen from the mean of all rows so far: what all features share would make all cosines alike.
    """

    def __init__(self, *, width: int, outputs: int) -> None:
        super().__init__()
        for name, shape in {"count": (), "counts": (outputs,), "total": (width,), "sums": (outputs, width)}.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.count: Tensor
        self.counts: Tensor
        self.total: Tensor
        self.sums: Tensor

    def forward(self, features: Tensor) -> Tensor:
        return self._cosines(features, self.sums, self.counts)

    def against(self, features: Tensor) -> Tensor:
        """(B, K): cosines to the mean of all rows that are not of a class; -1 where there are none."""
        return self._cosines(features, self.total - self.sums, self.count - self.counts)

    def grow(self, outputs: int) -> None:
        """Room for more classes."""
        more = outputs - len(self.counts)
        self.counts, self.sums = F.pad(self.counts, (0, more)), F.pad(self.sums, (0, 0, 0, more))

    @torch.no_grad()
    def add(self, features: Tensor, targets: Tensor, weight: Tensor) -> None:
        """Rows (B, D) of the classes that targets (B, K) mark, with weights (B,)."""
        x, y, w = features.double(), targets.double(), weight.double()
        self.count += w.sum()
        self.total += w @ x
        self.counts += w @ y
        self.sums += (y * w[:, None]).T @ x

    def _cosines(self, features: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        centre = self.total / self.count.clamp(min=1e-12)
        means = sums / counts.clamp(min=1e-12)[:, None] - centre
        near = F.normalize(features - centre.to(features), dim=1) @ F.normalize(means, dim=1).to(features).T
        return near.masked_fill(counts <= 0, -1.0)

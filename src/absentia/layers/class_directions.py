"""A learned direction for each class, to which rows of any modality are drawn: losses of one row at a time.

The orthogonal projection loss of SBNet compares the rows of a batch; with many classes few of them are alike. Against
directions every row has its own class and all the others in every step, however small, and whoever shares it. In
float32 at least.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.layers.exactly import exactly

__all__ = ["ClassDirections"]


class ClassDirections(nn.Module):
    """(K, D) learned vectors; a class that arrives later gets one behind the others."""

    def __init__(self, *, classes: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(classes, width))

    def grow(self, classes: int) -> None:
        """Room for `classes` in all; known directions stay."""
        known, width = self.vectors.shape
        draw = torch.Generator().manual_seed(known)
        fresh = torch.randn(classes - known, width, generator=draw).to(self.vectors)
        self.vectors = nn.Parameter(torch.cat([self.vectors.detach(), fresh]))

    @exactly
    def orthogonal(self, units: Tensor, marks: Tensor, *, apart: float = 0.7) -> Tensor:
        """(n,): 1 - mean cosine with the row's classes, + apart * mean |cosine| with the other classes.

        units: (n, D) of length 1.  marks: (n, K), 1 for the classes of a row.
        """
        cosines = units @ F.normalize(self.vectors, dim=1).T
        near = _mean(1 - cosines, marks)
        return near + apart * _mean(cosines.abs(), 1 - marks)

    @exactly
    def centre(self, units: Tensor, marks: Tensor) -> Tensor:
        """(n,): half the squared distance to the centres of the row's classes (Wen et al., ECCV 2016)."""
        return _mean(self._distances(units), marks) / 2

    @exactly
    def git(self, units: Tensor, marks: Tensor) -> Tensor:
        """(n,): the centre loss, + the mean of 1 / (1 + squared distance) to other centres (Calefati et al., 2018)."""
        return self.centre(units, marks) + _mean(1 / (1 + self._distances(units)), 1 - marks)

    def _distances(self, units: Tensor) -> Tensor:
        """(n, K): squared distances to the normalised centres."""
        return 2 - 2 * units @ F.normalize(self.vectors, dim=1).T


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """(n,): the weighted mean of each row, 0 where nothing weighs."""
    return (values * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)

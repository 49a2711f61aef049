"""VICReg: two embeddings of the same rows are to agree, to vary, and not to repeat themselves.

Bardes, Ponce & LeCun, ICLR 2022 (arXiv 2105.04906). The paper sums the variance terms of both branches, its code takes
their mean; both are here. Agreement needs rows that have both; variance and covariance count all rows of a branch.
All of it is computed in float32 at least.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from absentia.layers.exactly import exactly

__all__ = ["Reduction", "covariance", "invariance", "variance", "vicreg"]

Reduction = Literal["mean", "sum"]
EPSILON = 1e-4


@exactly
def vicreg(
    x: Tensor,
    y: Tensor,
    *,
    all_x: Tensor | None = None,
    all_y: Tensor | None = None,
    weights: tuple[float, float, float] = (25.0, 25.0, 1.0),
    gamma: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The weighted sum of the three terms.

    x, y: (n, d), the same rows in both branches.  all_x, all_y: (m, d), all rows of a branch; by default x and y.
    weights: of invariance, variance and covariance.  gamma: the standard deviation that a dimension should have.
    With fewer than two rows variance and covariance are left out; without any rows everything is 0.
    """
    s, v, c = weights
    one, other = x if all_x is None else all_x, y if all_y is None else all_y
    spread = torch.stack([variance(one, gamma), variance(other, gamma)])
    spread = spread.mean() if reduction == "mean" else spread.sum()
    return s * invariance(x, y) + v * spread + c * (covariance(one) + covariance(other))


@exactly
def invariance(x: Tensor, y: Tensor) -> Tensor:
    """The mean over rows and dimensions of (x - y)²; 0 without rows."""
    return F.mse_loss(x, y) if len(x) else (x.sum() + y.sum()) * 0


@exactly
def variance(x: Tensor, gamma: float = 1.0) -> Tensor:
    """The mean over dimensions of how much their standard deviation lacks to gamma; 0 for fewer than two rows."""
    if len(x) < 2:
        return x.sum() * 0
    return F.relu(gamma - (x.var(dim=0) + EPSILON).sqrt()).mean()


@exactly
def covariance(x: Tensor) -> Tensor:
    """(1 / d) times the sum of squared covariances of different dimensions; 0 for fewer than two rows.

    With fewer rows than dimensions by the Gram matrix of the rows, whose squared norm is the same: n² d, not n d².
    """
    n, d = x.shape
    if n < 2:
        return x.sum() * 0
    centred = x - x.mean(dim=0)
    product = centred @ centred.T if n < d else centred.T @ centred
    variances = centred.square().sum(dim=0) / (n - 1)
    return (product.square().sum() / (n - 1) ** 2 - variances.square().sum()) / d

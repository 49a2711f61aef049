"""Gaussian classes that share one covariance, kept as sums: rows may arrive in any order, in one session or in many.

Linear discriminant analysis. Every class is judged by the same measure, whatever session it came in, which classifiers
that each learned among their own session's classes are not (class statistics instead of old rows: SLCA, Zhang et al.
2023, arXiv 2303.05118; FeTrIL, Petit et al. 2023, arXiv 2211.13131). How far the covariance is shrunk towards a
multiple of the identity is in closed form: the oracle approximating shrinkage of Chen, Wiesel, Eldar & Hero 2010.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.layers.random_features import RandomFeatures

__all__ = ["Gaussian", "oracle_shrinkage"]

LEAST = 1e-3  # rows that a class counts as at least, in its share


class Gaussian(nn.Module):
    """Features (B, D) to scores (B, K), from sums over weighted rows.

    Log posteriors of classes, up to a number that a row's scores have in common; or, if the outputs are `labels` that
    do not exclude each other, each label's log odds of one Gaussian with it against one without. A class without rows
    has the mean of all rows, and hardly a share.
    size: random features; 0 takes the features as they are.
    """

    def __init__(self, *, width: int, outputs: int, size: int = 0, labels: bool = False) -> None:
        super().__init__()
        self.labels, self.widened = labels, RandomFeatures(width=width, size=size)
        wide = self.widened.size
        sums = {"count": (), "count_squared": (), "counts": (outputs,), "total": (wide,), "gram": (wide, wide)}
        solved = {"weight": (outputs, wide), "bias": (outputs,)}
        for name, shape in (sums | {"sums": (outputs, wide)} | solved).items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.count: Tensor
        self.count_squared: Tensor
        self.counts: Tensor
        self.total: Tensor
        self.gram: Tensor
        self.sums: Tensor
        self.weight: Tensor
        self.bias: Tensor

    def forward(self, features: Tensor) -> Tensor:
        wide = self.widened(features).to(self.weight)  # in float64, as large weights cancel each other
        scores: Tensor = wide @ self.weight.T + self.bias
        return scores.float()

    def grow(self, outputs: int) -> None:
        """Room for more classes."""
        more = outputs - len(self.counts)
        for name in ("counts", "bias"):
            setattr(self, name, F.pad(getattr(self, name), (0, more)))
        for name in ("sums", "weight"):
            setattr(self, name, F.pad(getattr(self, name), (0, 0, 0, more)))

    @torch.no_grad()
    def add(self, features: Tensor, targets: Tensor, weight: Tensor) -> None:
        """Rows (B, D) of the classes that targets (B, K) mark, with weights (B,); `solve` takes account of them."""
        x, y, w = self.widened(features).double(), targets.double(), weight.double()
        weighted = x * w[:, None]
        self.gram += weighted.T @ x
        self.total += weighted.sum(dim=0)
        self.sums += y.T @ weighted
        self.counts += w @ y
        self.count += w.sum()
        self.count_squared += w.square().sum()

    @torch.no_grad()
    def solve(self) -> None:
        """The rule of all rows so far. Without rows nothing changes."""
        if float(self.count) <= 0:
            return
        self.weight, self.bias = self._against_the_rest() if self.labels else self._beside_each_other()

    def _beside_each_other(self) -> tuple[Tensor, Tensor]:
        """w_k = S⁻¹ m_k,  b_k = log share_k - m_k S⁻¹ m_k / 2,  all seen from the mean of all rows.

        S is the covariance within classes.
        """
        means, centre = self._means(self.sums, self.counts), self.total / self.count
        shrunk, _ = self._shrunk((self.gram - self.sums.T @ means) / self.count)  # without rows no sums
        weight = torch.linalg.solve(shrunk, (means - centre).T).T
        shares = self.counts.clamp(min=LEAST) / self.count
        return weight, shares.log() - (weight * (means + centre)).sum(dim=1) / 2

    def _against_the_rest(self) -> tuple[Tensor, Tensor]:
        """w_k = S_k⁻¹ d_k, d_k the way from the mean without the label to the mean with it.

        S_k = S - share_k (1 - share_k) d_k d_kᵀ is the covariance around these two, S that around the mean of all
        rows, so that one inverse serves all labels (Sherman & Morrison 1950).
        """
        with_it, without = self.counts, self.count - self.counts
        one, other = self._means(self.sums, with_it), self._means(self.total - self.sums, without)
        centre = self.total / self.count
        shrunk, kept = self._shrunk(self.gram / self.count - centre[:, None] * centre)
        apart = one - other
        solved = torch.linalg.solve(shrunk, apart.T).T
        within = kept * with_it * without / self.count**2
        weight = solved / (1 - within * (solved * apart).sum(dim=1))[:, None]
        odds = (with_it.clamp(min=LEAST) / without.clamp(min=LEAST)).log()
        return weight, odds - (weight * (one + other)).sum(dim=1) / 2

    def _means(self, sums: Tensor, counts: Tensor) -> Tensor:
        """(K, D)"""
        there = (counts > 0)[:, None]
        return torch.where(there, sums / counts.clamp(min=1e-12)[:, None], self.total / self.count)

    def _shrunk(self, covariance: Tensor) -> tuple[Tensor, float]:
        """The covariance (D, D) shrunk, and how much of it is kept."""
        rows = float(self.count**2 / self.count_squared)  # where weights differ (Kish 1965)
        kept = 1 - oracle_shrinkage(covariance, rows)
        unit = covariance.diagonal().mean().clamp(min=1e-12)
        eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        return kept * covariance + max(1 - kept, 1e-6) * unit * eye, kept


def oracle_shrinkage(covariance: Tensor, rows: float) -> float:
    """From 0 to 1, how much of a covariance (D, D) of so many rows becomes a multiple of the identity.

    Chen et al. 2010, eq. 23, for D that is not small, as in scikit-learn.
    """
    square, unit = float(covariance.square().mean()), float(covariance.diagonal().mean()) ** 2
    spread = (rows + 1) * (square - unit / len(covariance))
    return min(1.0, (square + unit) / spread) if spread > 0 else 1.0

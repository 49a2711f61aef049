"""Ridge regression that remembers sums alone: rows may arrive in any order, in one session or in many.

RanPAC (McDonnell et al., NeurIPS 2023, arXiv 2307.02251): features are widened by a fixed random projection and a
ReLU; their Gram matrix G and the sums C of features by class add up over sessions, and (G + λI)⁻¹ C is the solution of
all rows so far at once. Here the features are centred, so that the intercept is not shrunk, and λ is what generalised
cross-validation chooses (Golub, Heath & Wahba 1979), from the same sums.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.data.target import TargetCodec
from absentia.layers.random_features import RandomFeatures

__all__ = ["Ridge", "columns_of", "scores_of"]

PENALTIES = 10.0 ** torch.arange(4, -8.01, -0.5, dtype=torch.float64)  # in mean eigenvalues of the Gram matrix
MOST_FREEDOM = 0.9  # degrees of freedom per row beyond which a penalty is too small to be judged
SHARPNESS = 20.0  # an estimate of a share is taken at its word from about 1 / SHARPNESS upwards
LEAST = 0.003  # and no share is smaller


class Ridge(nn.Module):
    """Features (B, D) to estimates (B, K), from sums over weighted rows.

    size: random features; 0 takes the features as they are.
    penalty: λ in mean eigenvalues of the Gram matrix; None chooses it by generalised cross-validation.
    """

    def __init__(self, *, width: int, outputs: int, size: int = 0, penalty: float | None = None) -> None:
        super().__init__()
        self.penalty, self.widened = penalty, RandomFeatures(width=width, size=size)
        wide = self.widened.size
        sums = {"count": (), "count_squared": (), "squares": (), "total": (wide,), "gram": (wide, wide)}
        by_output = {"sums": (wide, outputs), "means": (outputs,)}
        for name, shape in (sums | by_output).items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("weight", torch.zeros(wide, outputs, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(outputs, dtype=torch.float64))
        self.count: Tensor
        self.count_squared: Tensor
        self.squares: Tensor
        self.total: Tensor
        self.gram: Tensor
        self.sums: Tensor
        self.means: Tensor
        self.weight: Tensor
        self.bias: Tensor

    def forward(self, features: Tensor) -> Tensor:
        wide = self.widened(features).to(self.weight)  # in float64, as large weights cancel each other
        estimates: Tensor = wide @ self.weight + self.bias
        return estimates.float()

    def grow(self, outputs: int) -> None:
        """Room for more outputs; they are 0 until rows of theirs arrive."""
        more = outputs - self.means.shape[0]
        for name in ("sums", "means", "weight", "bias"):
            setattr(self, name, F.pad(getattr(self, name), (0, more)))

    @torch.no_grad()
    def add(self, features: Tensor, targets: Tensor, weight: Tensor) -> None:
        """Rows (B, D) with targets (B, K) and weights (B,); `solve` takes account of them."""
        wide, y, w = self.widened(features).double(), targets.double(), weight.double()
        weighted = wide * w[:, None]
        self.gram += weighted.T @ wide
        self.total += weighted.sum(dim=0)
        self.sums += weighted.T @ y
        self.means += w @ y  # sums of the targets, which `solve` divides
        self.squares += (w[:, None] * y.square()).sum()
        self.count += w.sum()
        self.count_squared += w.square().sum()

    @torch.no_grad()
    def solve(self) -> None:
        """The best weights for all rows so far. Without rows nothing changes."""
        n = float(self.count)
        if n <= 0:
            return
        mean, target = self.total / n, self.means / n
        centred = self.gram - n * mean[:, None] * mean
        crossed = self.sums - n * mean[:, None] * target
        values, vectors = torch.linalg.eigh(centred)
        values, turned = values.clamp(min=0), vectors.T @ crossed
        unit = values.mean().clamp(min=1e-12)
        spread = self.squares - n * target.square().sum()
        penalties = PENALTIES.to(values) if self.penalty is None else values.new_tensor([self.penalty])
        effective = n**2 / float(self.count_squared)  # rows, where weights differ (Kish 1965)
        explained = turned.square().sum(dim=1) / unit
        chosen = penalties[_cross_validated(values / unit, explained, spread, effective, penalties)]
        solution = vectors @ (turned / (values + chosen * unit)[:, None])
        self.weight, self.bias = solution, target - mean @ solution


def _cross_validated(values: Tensor, explained: Tensor, spread: Tensor, n: float, penalties: Tensor) -> int:
    """The penalty with the smallest error RSS / (1 - df / n)², the largest of equals."""
    inverse = 1 / (values + penalties[:, None])  # (P, F)
    freedom = (1 + (values * inverse).sum(dim=1)) / n
    residual = spread - (explained * inverse * (2 - values * inverse)).sum(dim=1)
    error = residual.clamp(min=0) / (1 - freedom).square()
    return int(error.masked_fill(freedom > MOST_FREEDOM, torch.inf).argmin())


def columns_of(target: Tensor, codec: TargetCodec) -> Tensor:
    """A target as float (B, K): one column per class or label, or the number."""
    if codec.target.kind == "class":
        return F.one_hot(target, codec.target.size).float()
    return target if codec.target.kind == "labels" else target[:, None]


def scores_of(estimates: Tensor, codec: TargetCodec) -> Tensor:
    """Estimated shares (B, K) as scores in the same order: log shares, logits of labels; numbers as they are."""
    if codec.target.kind == "number":
        return estimates
    share = _log_share(estimates)
    return share if codec.target.kind == "class" else share - _log_share(1 - estimates)


def _log_share(estimates: Tensor) -> Tensor:
    """Log of what an estimate says, which rises everywhere: never below LEAST, and itself from there on."""
    return (F.softplus(estimates * SHARPNESS) / SHARPNESS + LEAST).log()

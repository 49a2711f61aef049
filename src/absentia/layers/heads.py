"""From representations to scores, from scores to losses, probabilities and uncertainty, for every kind of target."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.data.target import TargetCodec

__all__ = ["Head", "prior_scores", "probabilities", "task_loss", "uncertainty_of"]

SMALLEST = 1e-4  # share given to a class that training rows did not show


class Head(nn.Module):
    """(B, D) to scores (B, K), starting at the prior."""

    def __init__(self, *, width: int, codec: TargetCodec, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, codec.target.size)
        nn.init.normal_(self.linear.weight, std=0.02)
        with torch.no_grad():
            self.linear.bias.copy_(prior_scores(codec))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) to (B, K)."""
        return self.linear(self.dropout(x))  # type: ignore[no-any-return]


def prior_scores(codec: TargetCodec) -> Tensor:
    """Scores (K,) that give the prior: log shares, logits of label shares, or 0 for a standardised number."""
    prior = torch.tensor(codec.prior, dtype=torch.float32)
    if codec.target.kind == "class":
        return prior.clamp(min=SMALLEST).log()
    if codec.target.kind == "labels":
        return prior.clamp(SMALLEST, 1 - SMALLEST).logit()
    return prior


def probabilities(scores: Tensor, codec: TargetCodec) -> Tensor:
    """Scores (B, K) as probabilities (B, K); numbers stay as they are."""
    if codec.target.kind == "class":
        return scores.float().softmax(dim=1)
    return scores.float().sigmoid() if codec.target.kind == "labels" else scores.float()


def task_loss(scores: Tensor, target: Tensor, codec: TargetCodec) -> Tensor:
    """Mean cross-entropy, binary cross-entropy or Huber loss of scores (B, K)."""
    if codec.target.kind == "class":
        return F.cross_entropy(scores, target)
    if codec.target.kind == "labels":
        return F.binary_cross_entropy_with_logits(scores, target)
    return F.smooth_l1_loss(scores[:, 0], target)


def uncertainty_of(scores: Tensor, codec: TargetCodec) -> Tensor:
    """(B,) from 0 to 1: entropy beside that of the prior; a number's is 0 wherever anything was seen."""
    if codec.target.kind == "number":
        return scores.new_zeros(len(scores))
    prior = prior_scores(codec).to(scores.device)[None]
    most = _entropy(prior, codec).clamp(min=1e-12)
    return (_entropy(scores.float(), codec) / most).clamp(0, 1)


def _entropy(scores: Tensor, codec: TargetCodec) -> Tensor:
    p = probabilities(scores, codec)
    if codec.target.kind == "class":
        return -(p * p.clamp(min=1e-12).log()).sum(dim=1) / math.log(2)
    both = torch.stack([p, 1 - p])
    return -(both * both.clamp(min=1e-12).log()).sum(dim=(0, 2)) / math.log(2)

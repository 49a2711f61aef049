"""Losses of pairs in a batch: the orthogonal projection loss of SBNet, and contrasts within and across modalities.

They compare the rows of a step with each other, so their value depends on who shares it. What compares a row with its
class alone is in `class_directions.py`. All are computed in float32 at least.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from absentia.layers.exactly import exactly

__all__ = ["alike_and_unlike", "cross_modal_contrast", "orthogonal_projection", "supervised_contrast"]

TINY = 1e-6  # in the denominators (SBNet, released code)


@exactly
def alike_and_unlike(marks: Tensor) -> tuple[Tensor, Tensor]:
    """bool (n, n) twice: other rows with exactly the same classes, and with none in common; marks (n, K) of 0 and 1."""
    shared, count = marks @ marks.T, marks.sum(dim=1)
    same = (shared == count[:, None]) & (shared == count[None]) & (count > 0)[:, None]
    others = ~torch.eye(len(marks), dtype=torch.bool, device=marks.device)
    return same & others, (shared == 0) & others


@exactly
def orthogonal_projection(units: Tensor, alike: Tensor, unlike: Tensor, *, apart: float = 0.7) -> Tensor:
    """(1 - mean cosine of alike pairs) + apart * mean |cosine| of unlike ones (Ranasinghe et al., ICCV 2021).

    units: (n, D) of length 1.  alike, unlike: bool (n, n). Without alike pairs the first term is 1, as released.
    """
    cosines = units @ units.T
    near = (cosines * alike).sum() / (alike.sum() + TINY)
    far = (cosines.abs() * unlike).sum() / (unlike.sum() + TINY)
    return (1 - near) + apart * far


@exactly
def supervised_contrast(units: Tensor, alike: Tensor, *, temperature: float) -> Tensor:
    """SupCon (Khosla et al., NeurIPS 2020) over rows (n, D) that have an alike one; 0 where none has."""
    scores = units @ units.T / temperature
    itself = torch.eye(len(units), dtype=torch.bool, device=units.device)
    log_shares = scores.masked_fill(itself, float("-inf")).log_softmax(dim=1).masked_fill(itself, 0.0)
    count = alike.sum(dim=1)
    said = (log_shares * alike).sum(dim=1) / count.clamp(min=1)
    return -said.sum() / (count > 0).sum().clamp(min=1)


@exactly
def cross_modal_contrast(one: Tensor, other: Tensor, *, temperature: float) -> Tensor:
    """InfoNCE in both directions between two modalities of the same n rows, (n, D) each; 0 for fewer than two rows."""
    if len(one) < 2:
        return (one.sum() + other.sum()) * 0
    scores = one @ other.T / temperature
    right = torch.arange(len(one), device=one.device)
    return (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2

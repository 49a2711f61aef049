"""Losses of a dense target: of each row, so that rows add up.

Regions may overlap and are asked one by one (`edice`, `dice_ce`); RFNet and mmFormer have exclusive classes instead.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from absentia.errors import extra

__all__ = ["DENSE_LOSSES", "class_dice", "dice_ce", "edice", "soft_dice", "weighted_cross_entropy"]

SOFT_DICE, ENTROPY = 0.7, 0.3  # M3AE's weights
LEAST = 0.005  # RFNet's and mmFormer's floor of a probability


def edice(scores: Tensor, truth: Tensor) -> Tensor:
    """(B,) from scores and truth (B, K, *space): 0.7 soft Dice + 0.3 binary cross-entropy (M3AE, AAAI 2023)."""
    return (SOFT_DICE * soft_dice(scores, truth, squared=True, smooth=1.0) + ENTROPY * _entropy(scores, truth)).mean(1)


def dice_ce(scores: Tensor, truth: Tensor) -> Tensor:
    """(B,) from scores and truth (B, K, *space): soft Dice and binary cross-entropy, one each."""
    return (soft_dice(scores, truth, squared=False, smooth=1e-5) + _entropy(scores, truth)).mean(dim=1)


def soft_dice(scores: Tensor, truth: Tensor, *, squared: bool, smooth: float) -> Tensor:
    """(B, K): 1 - (2 sum(p t) + s) / (sum(p) + sum(t) + s), with squares below the line where `squared`."""
    with extra("mri", "losses of masks"):
        from monai.losses.dice import DiceLoss
    loss = DiceLoss(sigmoid=True, squared_pred=squared, smooth_nr=smooth, smooth_dr=smooth, reduction="none")
    found: Tensor = loss(scores, truth)
    return found.flatten(1)


def weighted_cross_entropy(probability: Tensor, truth: Tensor) -> Tensor:
    """Of exclusive classes (B, K, *space), each weighted by the share that is not of it (RFNet, mmFormer)."""
    apart = [dim for dim in range(truth.dim()) if dim != 1]
    weight = 1 - truth.sum(dim=apart) / truth.sum()
    return -((truth * probability.clamp(LEAST, 1).log()).mean(dim=apart) * weight).sum()


def class_dice(probability: Tensor, truth: Tensor, *, least: float = 1e-7) -> Tensor:
    """1 - the mean over exclusive classes (B, K, *space) of 2 sum(p t) / (sum(p) + sum(t) + eps), batch as a whole."""
    apart = [dim for dim in range(truth.dim()) if dim != 1]
    both = (probability * truth).sum(dim=apart)
    return 1 - (2 * both / (probability.sum(dim=apart) + truth.sum(dim=apart) + least)).mean()


DENSE_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"edice": edice, "dice_ce": dice_ce}
"""By the name of the option masks.loss."""


def _entropy(scores: Tensor, truth: Tensor) -> Tensor:
    """(B, K)."""
    return F.binary_cross_entropy_with_logits(scores, truth, reduction="none").flatten(2).mean(dim=2)

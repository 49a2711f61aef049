"""What a student that sees less is taught by a teacher that sees more, of features and of scores.

The teacher is never moved by its student. M3AE's self-distillation (Liu et al., AAAI 2023), where two copies of a row
with different modalities agree and neither is the teacher, is `agreement`.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["agreement", "feature_loss", "score_loss"]


def feature_loss(student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
    """The mean squared difference from the teacher's features (B, ...); weight: (B,), of each row."""
    return _mean(F.mse_loss(student, teacher.detach(), reduction="none"), weight)


def agreement(one: Tensor, other: Tensor) -> Tensor:
    """The mean squared difference of two copies' features, which moves both (M3AE, eq. of its heterogeneous copies)."""
    return F.mse_loss(one, other)


def score_loss(
    student: Tensor, teacher: Tensor, weight: Tensor | None = None, *, kind: str = "class", temperature: float = 1.0
) -> Tensor:
    """How far the student's scores (B, K, ...) are from the teacher's, 0 where they are the same.

    weight: (B,), what each row's difference is multiplied with.

    class: T² KL of the softmax over K at temperature T (Hinton et al. 2015), the mean over all else. labels, or regions
    that overlap: the same of each sigmoid, a binary cross-entropy less what it is at best. number: squared difference.
    """
    teacher = teacher.detach()
    if kind == "number":
        return _mean(F.mse_loss(student, teacher, reduction="none"), weight)
    if kind == "class":
        wanted, said = (teacher / temperature).log_softmax(dim=1), (student / temperature).log_softmax(dim=1)
        return temperature**2 * _mean((wanted.exp() * (wanted - said)).sum(dim=1), weight)
    wanted = (teacher / temperature).sigmoid()
    apart = F.binary_cross_entropy_with_logits(student / temperature, wanted, reduction="none")
    least = F.binary_cross_entropy_with_logits(teacher / temperature, wanted, reduction="none")
    return temperature**2 * _mean(apart - least, weight)


def _mean(apart: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of (B, ...) over everything, rows weighted."""
    if weight is None:
        return apart.mean()
    return (weight.to(apart) * apart.view(len(apart), -1).mean(dim=1)).mean()

"""What a student that sees less is taught by a teacher that sees more, of features and of scores.

The teacher is never moved by its student. M3AE's self-distillation (Liu et al., AAAI 2023), where two copies of a row
with different modalities agree and neither is the teacher, is `agreement`.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["agreement", "feature_loss", "score_loss"]


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared difference from the teacher's features (B, ...)."""
    return F.mse_loss(student, teacher.detach())


def agreement(one: Tensor, other: Tensor) -> Tensor:
    """The mean squared difference of two copies' features, which moves both (M3AE, eq. of its heterogeneous copies)."""
    return F.mse_loss(one, other)


def score_loss(student: Tensor, teacher: Tensor, *, kind: str = "class", temperature: float = 1.0) -> Tensor:
    """How far the student's scores (B, K, ...) are from the teacher's, 0 where they are the same.

    class: T² KL of the softmax over K at temperature T (Hinton et al. 2015), the mean over all else. labels, or regions
    that overlap: the same of each sigmoid, a binary cross-entropy less what it is at best. number: squared difference.
    """
    teacher = teacher.detach()
    if kind == "number":
        return F.mse_loss(student, teacher)
    if kind == "class":
        wanted, said = (teacher / temperature).log_softmax(dim=1), (student / temperature).log_softmax(dim=1)
        return temperature**2 * (wanted.exp() * (wanted - said)).sum(dim=1).mean()
    wanted = (teacher / temperature).sigmoid()
    least = F.binary_cross_entropy_with_logits(teacher / temperature, wanted)
    return temperature**2 * (F.binary_cross_entropy_with_logits(student / temperature, wanted) - least)

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from absentia.layers.distillation import agreement, feature_loss, score_loss


def two(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=draw).requires_grad_(), torch.randn(*shape, generator=draw).requires_grad_()


@pytest.mark.parametrize("kind", ["class", "labels", "number"])
@pytest.mark.parametrize("space", [(), (4, 4), (2, 3, 4)])
def test_the_teacher_is_not_moved_and_equal_scores_cost_nothing(kind: str, space: tuple[int, ...]) -> None:
    student, teacher = two(3, 1 if kind == "number" else 5, *space)
    loss = score_loss(student, teacher, kind=kind, temperature=2.0) + feature_loss(student, teacher)
    loss.backward()
    assert loss > 0 and teacher.grad is None and student.grad is not None and student.grad.any()
    assert score_loss(teacher, teacher, kind=kind, temperature=2.0).item() == pytest.approx(0, abs=1e-6)


def test_scores_of_classes_are_compared_by_the_divergence_at_a_temperature() -> None:
    student, teacher = two(6, 4)
    expected = 9 * F.kl_div((student / 3).log_softmax(1), (teacher / 3).softmax(1), reduction="batchmean")
    torch.testing.assert_close(score_loss(student, teacher, temperature=3.0), expected)


def test_sigmoids_get_the_gradient_of_the_cross_entropy() -> None:
    student, teacher = two(6, 4)
    loss = score_loss(student, teacher, kind="labels")
    plain = F.binary_cross_entropy_with_logits(student, teacher.detach().sigmoid())
    torch.testing.assert_close(*(torch.autograd.grad(term, student)[0] for term in (loss, plain)))


@pytest.mark.parametrize("kind", ["class", "labels", "number"])
def test_rows_count_by_their_weight_alone(kind: str) -> None:
    student, teacher = two(6, 1 if kind == "number" else 5, 4, 4)
    rows = torch.tensor([True, False, True, True, False, False])
    some = [x[rows] for x in (student, teacher)]
    said, of_some = score_loss(student, teacher, rows, kind=kind), score_loss(*some, kind=kind)
    torch.testing.assert_close(said, of_some / 2)
    torch.testing.assert_close(feature_loss(student, teacher, rows), feature_loss(*some) / 2)
    (gradient,) = torch.autograd.grad(said, student)
    assert not gradient[~rows].any() and gradient[rows].any()
    assert score_loss(student, teacher, torch.zeros(6, dtype=torch.bool), kind=kind) == 0


def test_two_copies_that_agree_move_both() -> None:
    one, other = two(4, 8)
    agreement(one, other).backward()
    torch.testing.assert_close(one.grad, -other.grad)  # type: ignore[operator]

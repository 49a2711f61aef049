from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from absentia.layers.class_directions import ClassDirections
from absentia.layers.pair_losses import (
    alike_and_unlike,
    cross_modal_contrast,
    orthogonal_projection,
    supervised_contrast,
)


def problem(rows: int = 12, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit vectors and their classes as marks."""
    draw = torch.Generator().manual_seed(seed)
    units = F.normalize(torch.randn(rows, 5, generator=draw), dim=1)
    return units, F.one_hot(torch.arange(rows) % classes, classes).float()


def test_orthogonal_projection_is_that_of_its_sums() -> None:
    units, marks = problem()
    labels = marks.argmax(dim=1).tolist()
    near, far = [], []
    for i, one in enumerate(units):
        for j, other in enumerate(units):
            if labels[i] != labels[j]:
                far.append(abs(float(one @ other)))
            elif i != j:
                near.append(float(one @ other))
    expected = 1 - sum(near) / len(near) + 0.7 * sum(far) / len(far)
    assert float(orthogonal_projection(units, *alike_and_unlike(marks))) == pytest.approx(expected, abs=1e-5)


def test_without_alike_pairs_the_first_term_is_one() -> None:
    units, marks = problem(rows=3)
    far = (units @ units.T).abs().masked_select(~torch.eye(3).bool()).mean()
    loss = orthogonal_projection(units, *alike_and_unlike(marks))
    torch.testing.assert_close(loss, 1 + 0.7 * far, atol=1e-5, rtol=0)
    assert float(orthogonal_projection(units[:1], *alike_and_unlike(marks[:1]))) == 1


def test_alike_are_the_same_sets_of_labels_and_unlike_those_without_any_in_common() -> None:
    alike, unlike = alike_and_unlike(torch.tensor([[1.0, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]))
    assert alike.nonzero().tolist() == [[0, 1], [1, 0]]
    assert not unlike.diagonal().any() and not unlike[:3, :3].any() and unlike[4, 5] and unlike[3, :3].all()


def test_supervised_contrast_is_that_of_its_definition() -> None:
    units, marks = problem()
    alike, _ = alike_and_unlike(marks)
    total = 0.0
    for i in range(len(units)):
        scores = [math.exp(float(units[i] @ units[j]) / 0.5) for j in range(len(units))]
        rest = sum(scores) - scores[i]
        said = [math.log(scores[j] / rest) for j in range(len(units)) if alike[i, j]]
        total -= sum(said) / len(said) / len(units)
    assert float(supervised_contrast(units, alike, temperature=0.5)) == pytest.approx(total, abs=1e-5)


def test_contrasts_without_pairs_are_nothing_and_have_gradients() -> None:
    units, marks = problem(rows=3)
    units.requires_grad_()
    alike, _ = alike_and_unlike(marks)
    lone = [supervised_contrast(u, a, temperature=0.1) for u, a in ((units, alike), (units[:1], alike[:1, :1]))]
    lone += [cross_modal_contrast(units[:n], units[:n], temperature=0.1) for n in (0, 1)]
    assert not torch.stack(lone).any()
    (gradient,) = torch.autograd.grad(torch.stack(lone).sum(), units)
    assert not gradient.any()


def test_cross_modal_contrast_looks_both_ways() -> None:
    one, other = problem()[0], problem(seed=1)[0]
    there, back = (cross_modal_contrast(a, b, temperature=0.1) for a, b in ((one, other), (other, one)))
    torch.testing.assert_close(there, back)
    assert cross_modal_contrast(one, one, temperature=0.01) < 0.01 < there


# --- class directions


def directions(classes: int = 3) -> ClassDirections:
    torch.manual_seed(0)
    return ClassDirections(classes=classes, width=5)


def test_a_row_has_its_loss_whoever_stands_beside_it() -> None:
    units, marks = problem()
    one = directions()
    for loss in (one.orthogonal, one.centre, one.git):
        whole = loss(units, marks)
        assert whole.shape == (12,)
        torch.testing.assert_close(torch.cat([loss(units[i : i + 1], marks[i : i + 1]) for i in range(12)]), whole)


def test_at_orthogonal_directions_there_is_nothing_to_lose() -> None:
    one = directions()
    with torch.no_grad():
        one.vectors.copy_(3 * torch.eye(3, 5))
    units, marks = torch.eye(3, 5), torch.eye(3)
    for loss in (one.orthogonal, one.centre):
        assert not loss(units, marks).any()
    torch.testing.assert_close(one.git(units, marks), torch.full((3,), 1 / 3))
    torch.testing.assert_close(one.orthogonal(units, marks.roll(1, 0)), torch.full((3,), 1 + 0.7 / 2))


def test_rows_without_labels_and_with_all_of_them_are_finite() -> None:
    units, one = problem()[0][:2], directions()
    for marks in (torch.zeros(2, 3), torch.ones(2, 3)):
        for loss in (one.orthogonal, one.centre, one.git):
            assert loss(units, marks).isfinite().all()


def test_new_classes_come_behind_the_known() -> None:
    one = directions()
    before = one.vectors.detach().clone()
    one.grow(5)
    assert torch.equal(one.vectors[:3], before) and one.vectors.shape == (5, 5) and bool(one.vectors[3:].any())

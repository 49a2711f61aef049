"""Losses of masks: the numbers that the papers' own code gives, and that rows add up."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from absentia.layers.dense_losses import DENSE_LOSSES, class_dice, dice_ce, edice, soft_dice, weighted_cross_entropy


def test_edice_is_that_of_m3ae() -> None:
    scores = torch.linspace(-2, 2, 192).reshape(1, 3, 4, 4, 4)
    truth = (torch.arange(192) % 3 == 0).float().reshape(1, 3, 4, 4, 4)
    assert edice(scores, truth).item() == pytest.approx(0.6012240, abs=1e-6)


def test_exclusive_classes_are_those_of_rfnet_and_mmformer() -> None:
    shares = torch.linspace(-2, 2, 256).reshape(1, 4, 4, 4, 4).softmax(dim=1)
    truth = F.one_hot(torch.arange(64).reshape(1, 4, 4, 4) % 4, 4).movedim(-1, 1).float()
    assert weighted_cross_entropy(shares, truth).item() == pytest.approx(1.4580653, abs=1e-6)
    assert class_dice(shares, truth).item() == pytest.approx(0.8028986, abs=1e-6)


def test_dice_alone_is_written_out() -> None:
    scores = torch.tensor([[[[2.0, -1.0], [0.0, 3.0]]]])
    truth = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    p = scores.sigmoid()
    expected = 1 - (2 * (p * truth).sum() + 1) / ((p**2).sum() + truth.sum() + 1)
    torch.testing.assert_close(soft_dice(scores, truth, squared=True, smooth=1.0)[0, 0], expected)


@pytest.mark.parametrize("name", DENSE_LOSSES)
@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (3, 1, 4, 4, 4)])
def test_a_step_is_the_mean_of_its_rows_and_empty_masks_are_no_trouble(name: str, shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(shape, generator=draw).requires_grad_()
    truth = (torch.rand(shape, generator=draw) < 0.3).float()
    truth[1] = 0
    loss = DENSE_LOSSES[name](scores, truth)
    alone = [DENSE_LOSSES[name](scores[i : i + 1], truth[i : i + 1])[0] for i in range(3)]
    torch.testing.assert_close(loss, torch.stack(alone))
    loss.sum().backward()
    assert scores.grad is not None and torch.isfinite(scores.grad).all()


def test_a_better_answer_costs_less() -> None:
    truth = torch.zeros(1, 1, 8, 8)
    truth[..., 2:5, 2:5] = 1
    for loss in (edice, dice_ce):
        good, bad = loss(8 * truth - 4, truth), loss(4 - 8 * truth, truth)
        assert good < 0.1 < bad

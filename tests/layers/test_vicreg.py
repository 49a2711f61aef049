"""VICReg: the official form written out, the Gram matrix instead, few rows, both conventions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from absentia.layers.vicreg import covariance, invariance, variance, vicreg


def official(x: Tensor, y: Tensor, halved: bool = True) -> Tensor:
    """As its code has it, term by term."""
    n, d = x.shape
    agreement = F.mse_loss(x, y)
    x, y = x - x.mean(0), y - y.mean(0)
    spread = [F.relu(1 - torch.sqrt(z.var(0) + 1e-4)).mean() for z in (x, y)]
    repeated = 0.0
    for z in (x, y):
        c = (z.T @ z) / (n - 1)
        repeated = repeated + (c.square().sum() - c.diagonal().square().sum()) / d
    return 25 * agreement + 25 * sum(spread) / (2 if halved else 1) + repeated


@pytest.mark.parametrize("shape", [(8, 3), (5, 20), (2, 7), (64, 64)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_equals_the_official_form_in_loss_and_gradient(shape: tuple[int, int], reduction: str) -> None:
    torch.manual_seed(0)
    x, y = (torch.randn(shape, dtype=torch.double, requires_grad=True) for _ in range(2))
    ours, theirs = vicreg(x, y, reduction=reduction), official(x, y, reduction == "mean")  # type: ignore[arg-type]
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for one, other in zip(torch.autograd.grad(ours, (x, y)), torch.autograd.grad(theirs, (x, y)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_the_gram_matrix_of_rows_says_the_same_as_that_of_dimensions() -> None:
    torch.manual_seed(0)
    wide = torch.randn(6, 30, dtype=torch.double)
    centred = wide - wide.mean(0)
    c = centred.T @ centred / 5
    direct = (c.square().sum() - c.diagonal().square().sum()) / 30
    torch.testing.assert_close(covariance(wide), direct, rtol=1e-12, atol=0)


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows_are_no_nan(rows: int) -> None:
    x = torch.randn(rows, 4, requires_grad=True)
    y = torch.randn(rows, 4)
    loss = vicreg(x, y)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite() and x.grad is not None and x.grad.isfinite().all()
    assert variance(x) == covariance(x) == 0
    if not rows:
        assert invariance(x, y) == 0


def test_variance_counts_rows_that_have_no_pair() -> None:
    torch.manual_seed(0)
    x, everything = torch.zeros(3, 4), torch.randn(50, 4) * 5
    assert vicreg(x, x) > 20
    assert vicreg(x, x, all_x=everything, all_y=everything, weights=(25, 25, 0)) == 0

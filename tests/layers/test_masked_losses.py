from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from absentia.layers.masked_losses import present_only, reconstruction_loss

SPACES = [(6, 4), (4, 4, 4)]


def case(space: tuple[int, ...], modalities: int = 3) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    said, real = (torch.randn(5, modalities, 2, *space, generator=draw) for _ in range(2))
    seen = torch.rand(5, modalities, *space, generator=draw) < 0.3
    available = torch.rand(5, modalities, generator=draw) < 0.6
    available[:, 0] = True
    return said.requires_grad_(), real, available, seen & available.view(5, modalities, *[1] * len(space))


@pytest.mark.parametrize("space", SPACES)
def test_on_complete_rows_it_is_the_mean_over_all_voxels(space: tuple[int, ...]) -> None:
    said, real, available, seen = case(space)
    loss = reconstruction_loss(said, real, torch.ones_like(available), seen)
    torch.testing.assert_close(loss, F.mse_loss(said, real), rtol=1e-6, atol=0)
    hidden = reconstruction_loss(said, real, torch.ones_like(available), seen, visible=0.0)
    away = (said - real).square().movedim(2, -1)[~seen]
    torch.testing.assert_close(hidden, away.mean(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("space", SPACES)
def test_what_is_absent_is_never_read(space: tuple[int, ...]) -> None:
    said, real, available, seen = case(space)
    results = []
    for poison in (0.0, torch.nan, torch.inf):
        poisoned = real.clone()
        poisoned[~available] = poison
        loss = reconstruction_loss(said, poisoned, available, seen, hidden=2.0)
        (gradient,) = torch.autograd.grad(loss, said)
        assert torch.isfinite(loss) and torch.isfinite(gradient).all()
        assert not gradient[~available].any(), "no gradient where nothing is known"
        assert gradient[available].any()
        results.append((loss, gradient))
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0]) and torch.equal(gradient, results[0][1])


def test_nothing_to_ask_is_no_error() -> None:
    said, real, available, seen = case((4, 4))
    loss = reconstruction_loss(said, real, torch.zeros_like(available), torch.zeros_like(seen))
    assert loss == 0 and torch.autograd.grad(loss, said)[0].eq(0).all()
    loss = reconstruction_loss(said, real, available, torch.ones_like(seen), visible=0.0)
    assert loss == 0 and torch.autograd.grad(100 * loss, said)[0].eq(0).all()


def test_only_what_is_present_is_kept() -> None:
    _, real, available, _ = case((4, 4))
    real[~available] = torch.nan
    kept = present_only(real, available, 7.0)
    assert (kept[~available] == 7).all() and torch.equal(kept[available], real[available])

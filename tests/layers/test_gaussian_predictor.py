"""The closed form: equal to ridge regression, fitted without complete rows, honest about its variance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from absentia.layers.gaussian_predictor import GaussianPredictor


def rows(count: int, seed: int = 0) -> Tensor:
    """(count, 3, 2): three embeddings that share two hidden numbers."""
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(9), dtype=torch.double)
    hidden = torch.randn(count, 2, generator=draw, dtype=torch.double)
    noise = torch.randn(count, 3, 2, generator=draw, dtype=torch.double)
    return torch.einsum("bh,mhd->bmd", hidden, mixing) + 0.3 * noise + torch.tensor([1.0, -2.0])


def fitted(embeddings: Tensor, presence: Tensor, penalty: float = 1e-9) -> GaussianPredictor:
    made = GaussianPredictor(modalities=3, width=2, penalty=penalty)
    for part, there in zip(embeddings.split(100), presence.split(100), strict=True):
        made.add(part, there)
    made.solve()
    return made


def test_equals_least_squares_on_complete_rows() -> None:
    z = rows(500)
    made = fitted(z, torch.ones(500, 3, dtype=torch.bool))
    source = torch.cat([z[:, :2].flatten(1), torch.ones(500, 1, dtype=torch.double)], dim=1)
    weights = torch.linalg.lstsq(source, z[:, 2]).solution
    shown = torch.tensor([True, True, False]).expand(500, 3)
    torch.testing.assert_close(made(z, shown)[0][:, 2], source @ weights, rtol=1e-5, atol=1e-5)


def test_moments_of_rows_that_all_lack_something_lose_little() -> None:
    z, new = rows(6000), rows(2000, seed=1)
    lacking = ~torch.eye(3, dtype=torch.bool)[torch.arange(6000) % 3]
    everything = torch.ones(2000, 3, dtype=torch.bool)
    whole = fitted(z, torch.ones(6000, 3, dtype=torch.bool)).explained(new, everything)
    partly = fitted(z.masked_fill(~lacking[..., None], torch.nan), lacking).explained(new, everything)
    off = ~torch.eye(3, dtype=torch.bool)
    assert (whole[off] > 0.5).any()
    assert ((whole - partly)[off] < 0.03).all()
    assert whole.diagonal().isnan().all()


@pytest.mark.parametrize("penalty", [1e-9, 1.0])
def test_its_variance_is_that_of_its_errors(penalty: float) -> None:
    z, new = rows(5000), rows(5000, seed=1)
    made = fitted(z, torch.ones(5000, 3, dtype=torch.bool), penalty)
    guess, spread = made(new, torch.tensor([True, False, False]).expand(5000, 3))
    errors = (guess - new)[:, 1:].square().mean(dim=0)
    torch.testing.assert_close(spread[0, 1:], errors, rtol=0.1, atol=0.01)
    assert not spread[:, 0].any() and torch.equal(guess[:, 0], new[:, 0])


def test_what_never_occurs_together_is_guessed_by_the_mean() -> None:
    z = rows(400)
    presence = torch.tensor([[True, False, False], [False, True, True]])[torch.arange(400) % 2]
    made = fitted(z, presence)
    guess = made(z, torch.tensor([True, False, False]).expand(400, 3))[0]
    mean = z[presence[:, 1], 1].mean(dim=0)
    torch.testing.assert_close(guess[:, 1], mean.expand(400, 2), rtol=1e-6, atol=1e-6)


def test_nothing_present_is_the_mean_and_hidden_values_do_not_matter() -> None:
    z = rows(300)
    made = fitted(z, torch.ones(300, 3, dtype=torch.bool))
    shown = torch.zeros(300, 3, dtype=torch.bool)
    guess = made(z.masked_fill(~shown[..., None], torch.nan), shown)[0]
    torch.testing.assert_close(guess, z.mean(dim=0).expand(300, 3, 2))

from __future__ import annotations

import pytest
import torch

from absentia.layers.hiding import exchanged, hidden_tokens, picked_modality


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flags(n: int, value: bool = False) -> torch.Tensor:
    return torch.full((n,), value)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_a_share_of_the_real_tokens_is_hidden(share: float) -> None:
    valid = torch.arange(12)[None] < torch.tensor([1, 4, 12, 0]).repeat(2000)[:, None]
    hidden = hidden_tokens(valid, share, alone=flags(8000), whole=flags(8000), draw=draw())
    assert not (hidden & ~valid).any()
    counts = hidden.sum(dim=1).view(2000, 4).double()
    assert torch.allclose(counts.mean(dim=0), share * torch.tensor([1.0, 4, 12, 0]).double(), atol=0.05)
    assert float((counts[:, 2] - share * 12).abs().max()) < 1, "rounded by chance, never further off"
    assert (hidden.view(2000, 4, 12)[:, 2].double().mean(dim=0) - share).abs().max() < 0.06, "any of them"


def test_rows_that_have_nothing_else_keep_a_token() -> None:
    valid = torch.arange(5)[None] < torch.tensor([1, 2, 5]).repeat(100)[:, None]
    hidden = hidden_tokens(valid, 1.0, alone=flags(300, True), whole=flags(300), draw=draw())
    assert (hidden.sum(dim=1) == valid.sum(dim=1) - 1).all()


def test_a_modality_may_be_hidden_altogether() -> None:
    valid = torch.arange(5)[None] < torch.tensor([1, 2, 5]).repeat(100)[:, None]
    hidden = hidden_tokens(valid, 0.0, alone=flags(300), whole=flags(300, True), draw=draw())
    assert torch.equal(hidden, valid)


def test_one_of_what_is_present_is_picked_evenly() -> None:
    presence = torch.tensor([[True, False, True], [False, True, False], [True, True, True]]).repeat(3000, 1)
    picked = picked_modality(presence, draw())
    assert presence[torch.arange(9000), picked].all()
    assert torch.allclose(picked[2::3].bincount() / 3000, torch.tensor(1 / 3), atol=0.03)
    assert torch.allclose(picked[::3].bincount(minlength=3) / 3000, torch.tensor([0.5, 0, 0.5]), atol=0.03)


def test_exchanged_rows_have_what_another_row_had() -> None:
    inputs = {"x": torch.arange(40.0).view(10, 4), "mask": torch.ones(10, 4, dtype=torch.bool)}
    rows = torch.arange(10) % 2 == 0
    new, changed = exchanged(inputs, rows, draw())
    assert torch.equal(changed, rows)
    assert torch.equal(new["x"][~rows], inputs["x"][~rows])
    found = (new["x"][rows][:, None] == inputs["x"][None]).all(dim=2).nonzero()[:, 1]
    assert len(found) == 5 and (found != rows.nonzero()[:, 0]).all()


def test_an_exchange_that_changes_nothing_is_none() -> None:
    new, changed = exchanged({"x": torch.ones(10, 4)}, flags(10, True), draw())
    assert not changed.any() and torch.equal(new["x"], torch.ones(10, 4))
    new, changed = exchanged({"x": torch.randn(1, 4)}, flags(1, True), draw())
    assert not changed.any()

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from absentia.layers.switching import SWITCHINGS, Switching, switched

ROWS = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(ROWS, st.integers(0, 999), st.sampled_from(SWITCHINGS))
def test_what_enters_was_there_and_something_does(rows: list[list[bool]], seed: int, switching: Switching) -> None:
    presence = torch.tensor(rows)
    shown = switched(presence, switching, 0.5, drawn(seed))
    assert (shown <= presence).all() and shown.any() == presence.any()
    assert torch.equal(shown, switched(presence, switching, 0.5, drawn(seed)))
    if switching == "random":
        assert torch.equal(shown.sum(dim=1), presence.any(dim=1).long())
    if switching == "one":
        assert shown.any(dim=0).sum() <= 1
        assert all(torch.equal(shown[:, m], presence[:, m]) for m in shown.any(dim=0).nonzero()[:, 0].tolist())


@pytest.mark.parametrize("whole", [0.0, 0.25, 1.0])
def test_half_shows_everything_so_often(whole: float) -> None:
    presence = torch.ones(2, 3).bool()
    complete = [bool(switched(presence, "half", whole, drawn(seed)).all()) for seed in range(2000)]
    assert abs(sum(complete) / 2000 - whole) < 0.03


def test_modalities_are_drawn_by_how_many_rows_have_them() -> None:
    presence = torch.tensor([[1, 0, 0], [1, 0, 1], [1, 0, 0]]).bool()
    firsts = [bool(switched(presence, "one", 0.5, drawn(seed))[:, 0].any()) for seed in range(2000)]
    assert abs(sum(firsts) / 2000 - 0.75) < 0.03

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from absentia.layers.subsets import hidden_parts

ROWS = st.lists(st.lists(st.booleans(), min_size=4, max_size=4).filter(lambda row: sum(row) > 1), min_size=1)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(ROWS, st.integers(0, 999), st.booleans())
def test_a_part_is_hidden_and_something_stays(rows: list[list[bool]], seed: int, several: bool) -> None:
    presence = torch.tensor(rows)
    shown = hidden_parts(presence, drawn(seed), several=several)
    gone = presence.sum(1) - shown.sum(1)
    assert (shown <= presence).all() and shown.any(dim=1).all() and (gone >= 1).all()
    assert several or (gone == 1).all()
    assert torch.equal(shown, hidden_parts(presence, drawn(seed), several=several))


def test_each_of_two_is_hidden_in_turn() -> None:
    shown = hidden_parts(torch.ones(3, 2).bool(), drawn(0), several=True)
    assert shown.tolist() == 3 * [[False, True]] + 3 * [[True, False]]


def test_each_is_hidden_as_often() -> None:
    presence = torch.tensor([[1, 1, 0, 1]]).bool().repeat(30_000, 1)
    one, several = (hidden_parts(presence, drawn(0), several=flag) for flag in (False, True))
    for shown in (one, several):
        assert not shown[:, 2].any()
    torch.testing.assert_close((~one).float().mean(0), torch.tensor([1, 1, 3, 1]) / 3, atol=0.01, rtol=0)
    assert abs(float((several.sum(1) == 1).float().mean()) - 0.5) < 0.01


def test_without_rows_there_is_nothing_to_hide() -> None:
    for modalities in (1, 2, 3):
        assert hidden_parts(torch.zeros(0, modalities).bool(), drawn(0)).shape == (0, modalities)

"""A guess from the row most alike: what it takes, what it does not look at, and what it does without any."""

from __future__ import annotations

import torch

from absentia.layers.nearest_predictor import NearestPredictor

MEAN = torch.full((2, 3), 7.0)


def remembered(most: int = 64, rows: int = 5) -> tuple[NearestPredictor, torch.Tensor]:
    made = NearestPredictor(modalities=2, width=3, most=most)
    z = torch.randn(rows, 2, 3, generator=torch.Generator().manual_seed(0))
    made.add(z, torch.ones(rows, 2, dtype=torch.bool))
    made.solve()
    return made, z


def test_a_row_that_is_remembered_gets_back_what_it_lacks() -> None:
    made, z = remembered()
    shown = z.clone()
    shown[:, 1] = torch.nan
    found = made(shown, torch.tensor([[True, False]]).expand(5, 2), MEAN)
    assert torch.equal(found, z)


def test_only_rows_with_two_modalities_are_remembered_and_nothing_absent_is_looked_at() -> None:
    made, z = remembered()
    odd = torch.full((1, 2, 3), torch.nan)
    odd[0, 0] = z[0, 0]
    made.add(odd, torch.tensor([[True, False]]))
    assert int(made.count) == 5 and made.memory.isfinite().all()


def test_without_a_row_to_compare_with_the_guess_is_the_mean() -> None:
    made = NearestPredictor(modalities=2, width=3)
    made.solve()
    found = made(torch.zeros(4, 2, 3), torch.tensor([[False, True]]).expand(4, 2), MEAN)
    assert (found[:, 0] == 7).all() and (found[:, 1] == 0).all()


def test_neighbours_are_averaged() -> None:
    made, z = remembered()
    made.neighbours = 5
    shown = z.clone()
    found = made(shown, torch.tensor([[True, False]]).expand(5, 2), MEAN)
    torch.testing.assert_close(found[:, 1], z[:, 1].mean(dim=0).expand(5, 3))


def test_of_many_rows_evenly_spaced_ones_are_kept_however_they_come() -> None:
    z = torch.arange(21.0)[:, None, None].expand(21, 2, 3)
    there = torch.ones(21, 2, dtype=torch.bool)
    kept = []
    for parts in (21, 1, 4):
        made = NearestPredictor(modalities=2, width=3, most=4)
        for start in range(0, 21, parts):
            made.add(z[start : start + parts], there[start : start + parts])
        kept.append(made.memory[: int(made.count), 0, 0].tolist())
    assert kept[0] == kept[1] == kept[2] == [0.0, 8.0, 16.0]

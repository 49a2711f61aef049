from __future__ import annotations

import pytest
import torch

from absentia.layers.masking import drop_modalities, grid_of, keep_patches, kept_count, over_patches


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_rows(rows: int, modalities: int) -> torch.Tensor:
    """Availability in which every row has something."""
    available = torch.rand(rows, modalities, generator=draw(1)) < 0.6
    return available | (torch.arange(modalities) == torch.arange(rows)[:, None] % modalities)


@pytest.mark.parametrize("modalities", [2, 3, 4, 9])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.75, 0.875])
def test_exactly_the_wanted_number_of_patches_is_kept(modalities: int, ratio: float) -> None:
    available = some_rows(200, modalities)
    shown = drop_modalities(available, draw())
    kept = keep_patches(available, shown, 64, ratio, draw(2))
    wanted = ((1 - ratio) * available.sum(dim=1) * 64).floor().clamp(min=1)
    assert torch.equal(kept.sum(dim=(1, 2)), torch.minimum(wanted, shown.sum(dim=1) * 64.0).long())
    assert torch.equal(kept.sum(dim=(1, 2)), kept_count(available, shown, 64, ratio))
    assert not kept[~shown].any(), "of shown modalities alone"


def test_with_everything_available_the_number_is_that_of_m3ae() -> None:
    available = torch.ones(500, 4).bool()
    shown = drop_modalities(available, draw())
    assert set(shown.sum(dim=1).tolist()) == {1, 2, 3, 4}
    assert (keep_patches(available, shown, 512, 0.875, draw(1)).sum(dim=(1, 2)) == 256).all()


def test_masks_differ_from_row_to_row_and_are_drawn_evenly() -> None:
    available = torch.ones(4000, 2).bool()
    kept = keep_patches(available, available, 8, 0.75, draw())
    assert len(torch.unique(kept.flatten(1), dim=0)) > 100
    assert (kept.double().mean(dim=0) - 0.25).abs().max() < 0.03


@pytest.mark.parametrize("how", ["uniform_size", "bernoulli"])
def test_something_of_what_a_row_has_is_shown_and_nothing_else(how: str) -> None:
    available = some_rows(3000, 4)
    shown = drop_modalities(available, draw(), how=how, rate=0.8)  # type: ignore[arg-type]
    assert shown.any(dim=1).all() and not (shown & ~available).any()
    nothing = torch.zeros(3, 4).bool()
    assert not drop_modalities(nothing, draw(), how=how).any()  # type: ignore[arg-type]


def test_bernoulli_drops_at_its_rate_and_sizes_are_even_otherwise() -> None:
    full = torch.ones(20_000, 4).bool()
    shown = drop_modalities(full, draw(), how="bernoulli", rate=0.3)
    assert (shown.double().mean(dim=0) - 0.7).abs().max() < 0.02
    sizes = drop_modalities(full, draw()).sum(dim=1).bincount(minlength=5)[1:] / 20_000
    assert (sizes - 0.25).abs().max() < 0.02


@pytest.mark.parametrize(("space", "patch"), [((8, 12), 4), ((10, 7), 4), ((4, 6, 8), 2), ((5, 5, 5), 3)])
def test_a_patch_covers_its_voxels_in_two_and_three_dimensions(space: tuple[int, ...], patch: int) -> None:
    grid = grid_of(space, patch)
    count = int(torch.tensor(grid).prod())
    seen = torch.zeros(1, 2, count).bool()
    number = count // 2
    seen[0, 1, number] = True
    voxels = over_patches(seen, space, patch)
    assert voxels.shape == (1, 2, *space) and not voxels[0, 0].any()
    place = torch.unravel_index(torch.tensor(number), grid)
    expected = torch.zeros(space).bool()
    expected[tuple(slice(int(p) * patch, (int(p) + 1) * patch) for p in place)] = True
    assert torch.equal(voxels[0, 1], expected)
    assert over_patches(torch.ones_like(seen), space, patch).all()

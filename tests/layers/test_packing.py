from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from absentia.layers.packing import SLACK_SHARE, SLACK_TOKENS, Grid, Packing, Segment

CPU = torch.device("cpu")
WIDTH = 3


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[Segment], int]:
    """Any number of samples, each with any of up to three modalities of any lengths, padding at any place."""
    size = draw(st.integers(0, 8))
    segments = []
    for _ in range(draw(st.integers(0, 3))):
        rows = draw(st.lists(st.sampled_from(range(size)), unique=True).map(sorted)) if size else []
        length = draw(st.integers(1, 30))
        flags = st.lists(st.booleans(), min_size=length - 1, max_size=length - 1)
        valid = [[True, *draw(flags)] for _ in rows]
        segments.append(
            Segment(
                torch.randn(len(rows), length, WIDTH),
                torch.tensor(valid, dtype=torch.bool).view(len(rows), length),
                torch.tensor(rows, dtype=torch.long),
            )
        )
    return segments, size


@given(batches())
def test_what_is_packed_comes_back(batch: tuple[list[Segment], int]) -> None:
    segments, size = batch
    packing = Packing.of(segments, size, CPU)
    packed = packing.pack(torch.empty(WIDTH))
    assert packed.shape == (sum(int(s.valid.sum()) for s in segments), WIDTH)
    for number, segment in enumerate(segments):
        back = packing.unpack(packed, number)
        assert torch.equal(back, segment.tokens.where(segment.valid[..., None], 0))
        assert torch.equal(packed[packing.cls_places(number)], segment.tokens[:, 0])
        assert torch.equal(packing.sample[packing.cls_places(number)], segment.rows)


@given(batches())
def test_groups_hold_every_token_once_with_little_padding(batch: tuple[list[Segment], int]) -> None:
    segments, size = batch
    packing = Packing.of(segments, size, CPU)
    assert sum(packing.groups) == len(packing.order) == len(set(packing.sample.tolist()))
    assert sum(grid.tokens for grid in packing.grids) == len(packing.sample)
    assert packing.sample.unique_consecutive().tolist() == packing.order.tolist()  # type: ignore[no-untyped-call]
    for grid in packing.grids:
        most = max(SLACK_TOKENS, SLACK_SHARE * grid.width)
        assert grid.samples * grid.width - grid.tokens <= (grid.samples - 1) * most
    for grid, cls in zip(packing.grids, packing.cls_grids(), strict=True):
        assert grid.samples == cls.samples


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_a_grid_spreads_and_collects(lengths: list[int]) -> None:
    grid = Grid.of(lengths, CPU)
    packed = torch.randn(sum(lengths), WIDTH)
    rectangle = grid.spread(packed)
    assert torch.equal(grid.collect(rectangle), packed)
    filled = grid.filled()
    if filled is None:
        assert len(set(lengths)) == 1
        assert rectangle.data_ptr() == packed.data_ptr()  # equal lengths are a view, not a copy
    else:
        assert filled.sum(1).tolist() == lengths
        assert not rectangle[~filled].any()


def test_the_number_of_groups_is_logarithmic_in_the_lengths() -> None:
    rows = torch.arange(1000)
    valid = torch.arange(1000) <= rows[:, None]  # one sample of every length from 1 to 1000
    packing = Packing.of([Segment(torch.zeros(1000, 1000, 1), valid, rows)], 1000, CPU)
    assert len(packing.groups) <= 60


def test_broken_segments_are_refused() -> None:
    tokens, valid = torch.zeros(2, 4, WIDTH), torch.ones(2, 4, dtype=torch.bool)

    def refused(message: str, segment: Segment) -> None:
        with pytest.raises(ValueError, match=message):
            Packing.of([segment], 3, CPU)

    refused("strictly increasing", Segment(tokens, valid, torch.tensor([1, 1])))
    refused("strictly increasing", Segment(tokens, valid, torch.tensor([2, 0])))
    refused("below 3", Segment(tokens, valid, torch.tensor([1, 3])))
    refused("below 3", Segment(tokens, valid, torch.tensor([-1, 0])))
    refused("do not belong together", Segment(tokens, valid[:, :3], torch.tensor([0, 1])))
    refused("do not belong together", Segment(tokens, valid, torch.tensor([0, 1, 2])))
    headless = valid.clone()
    headless[1, 0] = False
    refused("column 0", Segment(tokens, headless, torch.tensor([0, 1])))

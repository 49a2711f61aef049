"""Groups of like length: no row is padded by more than asked, and what is joined stands where it stood."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from absentia.layers.like_length import LengthGroups, neighbours

LENGTHS = st.lists(st.integers(1, 600), min_size=1, max_size=40)


@given(LENGTHS, st.sampled_from([0.0, 0.05, 0.5]), st.sampled_from([0, 8, 30]))
def test_no_row_is_padded_by_more_than_asked(lengths: list[int], share: float, tokens: int) -> None:
    ascending = torch.tensor(sorted(lengths))
    parts = torch.split(ascending, list(neighbours(ascending, share=share, tokens=tokens)))
    for part in parts:
        assert part[-1] - part[0] <= max(tokens, share * float(part[-1]))
    for part, longer in pairwise(parts):
        assert longer[0] - part[0] > max(tokens, share * float(longer[0])), "it would have had room"


@given(LENGTHS, st.booleans())
def test_rows_come_back_where_they_stood(lengths: list[int], alike: bool) -> None:
    groups = LengthGroups.of(torch.tensor(lengths), **({"share": 0.125, "tokens": 8} if alike else {}))
    longest = max(lengths)
    there = torch.arange(longest) < torch.tensor(lengths)[:, None]
    x = torch.randn(len(lengths), longest, 2) * there[..., None]
    parts = list(groups.split({"x": x, "there": there}))
    assert torch.equal(groups.joined([part["x"] for part in parts]), x)
    assert torch.equal(groups.joined([part["there"] for part in parts]), there)
    assert all(part["there"].any(dim=0).all() for part in parts), "no group is wider than its longest row"
    assert alike or all(part["there"].all() for part in parts)


def test_gradients_go_to_the_rows_they_belong_to() -> None:
    lengths = torch.tensor([3, 1, 3, 2])
    x = torch.randn(4, 3, 2, dtype=torch.double, requires_grad=True)
    groups = LengthGroups.of(lengths)
    assert [rows.tolist() for rows in groups.rows] == [[1], [3], [0, 2]] and groups.widths == (1, 2, 3)
    weights = torch.randn(4, 3, 2, dtype=torch.double)
    (groups.joined([part["x"] for part in groups.split({"x": x})]) * weights).sum().backward()  # type: ignore[no-untyped-call]
    there = torch.arange(3) < lengths[:, None]
    assert torch.equal(x.grad, weights * there[..., None])  # type: ignore[arg-type]


@pytest.mark.parametrize("parts", [(torch.zeros(1, 2, 3), torch.ones(1, 5, 3)), (torch.zeros(1, 4), torch.ones(1, 2))])
def test_parts_may_have_other_widths_than_their_inputs(parts: tuple[torch.Tensor, ...]) -> None:
    """As the windows of a sound, which are fewer than its samples."""
    groups = LengthGroups.of(torch.tensor([7, 30]))
    joined = groups.joined(parts)
    assert joined.shape[:2] == (2, max(part.shape[1] for part in parts))

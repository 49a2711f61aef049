from __future__ import annotations

import pytest
import torch

from absentia.layers.pattern_prompts import PatternPrompts
from absentia.layers.subsets import all_patterns


@pytest.mark.parametrize("count", [2, 6, 7])
def test_each_pattern_has_prompts_of_its_own(count: int) -> None:
    names = [f"m{i}" for i in range(count)]
    prompts = PatternPrompts(names=names, layers=2, length=3, width=4)
    patterns = torch.from_numpy(all_patterns(count))
    found = prompts(patterns)
    assert found.shape == (2, 2**count - 1, 3, 4)
    assert len(torch.unique(found[0].flatten(1), dim=0)) == 2**count - 1
    assert len(prompts.sets) == (2**count - 1 if count < 7 else 2 * count), "many patterns share what they are made of"


@pytest.mark.parametrize("count", [3, 7])
def test_the_order_of_modalities_does_not_matter(count: int) -> None:
    names, turn = [f"m{i}" for i in range(count)], torch.randperm(count, generator=torch.Generator().manual_seed(0))
    one = PatternPrompts(names=names, layers=1, length=2, width=4)
    other = PatternPrompts(names=[names[int(i)] for i in turn], layers=1, length=2, width=4)
    other.load_state_dict(one.state_dict())
    patterns = torch.from_numpy(all_patterns(count))
    torch.testing.assert_close(other(patterns[:, turn]), one(patterns))

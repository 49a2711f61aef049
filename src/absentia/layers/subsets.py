"""Patterns as rows of bools: all of them, and random subsets of what a row has."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["all_patterns", "random_subsets"]


def all_patterns(count: int) -> npt.NDArray[np.bool_]:
    """bool (2^M - 1, M): every way that at least one of M modalities is present, fewest first."""
    rows = itertools.product([False, True], repeat=count)
    return np.asarray(sorted((r for r in rows if any(r)), key=lambda r: (sum(r), [not x for x in r])))


def random_subsets(presence: Tensor, keep: float, draw: torch.Generator) -> Tensor:
    """bool (B, M): for each row with probability `keep` all it has, else a random non-empty part of that.

    The size of the part is drawn evenly from 1 to the number present, then which ones; one sort, no loop.
    """
    batch, modalities = presence.shape
    noise = torch.rand(batch, modalities + 2, generator=draw).to(presence.device)
    have = presence.sum(dim=1)
    size = torch.where(noise[:, -1] < keep, have, (noise[:, -2] * have).floor().long() + 1)
    rank = noise[:, :modalities].masked_fill(~presence, 2.0).argsort(dim=1).argsort(dim=1)
    return presence & (rank < size[:, None])

"""Patterns as rows of bools: all of them, random subsets of what a row has, and what is left once a part is hidden."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["all_patterns", "hidden_parts", "random_subsets"]


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
    return presence & (_ranks(presence, noise) < size[:, None])


def hidden_parts(presence: Tensor, draw: torch.Generator, *, several: bool = False) -> Tensor:
    """What rows that have two modalities or more, bool (n, M), still show when one of these is hidden, bool (n', M).

    Of two modalities each is hidden in turn: all rows without the first, then all without the second, n' = 2 n. Of
    more, one is drawn for each row, n' = n; with `several` any number that leaves one.
    """
    rows, modalities = presence.shape
    if modalities == 2:
        return torch.cat([presence & shown for shown in torch.eye(2, dtype=torch.bool, device=presence.device).flip(0)])
    noise = torch.rand(rows, modalities + 1, generator=draw).to(presence.device)
    most = presence.sum(dim=1) - 1
    gone = (noise[:, -1] * most).floor().long() + 1 if several else torch.ones_like(most)
    return presence & (_ranks(presence, noise) >= gone[:, None])


def _ranks(presence: Tensor, noise: Tensor) -> Tensor:
    """(B, M): a random order of what each row has, from 0; what it lacks comes behind."""
    return noise[:, : presence.shape[1]].masked_fill(~presence, 2.0).argsort(dim=1).argsort(dim=1)

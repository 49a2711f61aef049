"""Patterns as rows of bools: all of them, random subsets of what a row has, and what is left once a part is hidden."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from math import comb

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["all_patterns", "hidden_parts", "random_subsets", "weighted_parts"]

MOST = 8  # modalities up to which every part of what a row has is meant


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


def weighted_parts(presence: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Every part of what rows have: what is shown, bool (B, M), and the row's weight for it, (B,).

    A row's weights add up to 1, every size of a part counts alike, and 0 means that the row has no such part.
    Above 8 modalities the parts are all a row has, each modality alone, and all but one of them.
    """
    modalities = presence.shape[1]
    if modalities > MOST:
        yield from _ends(presence)
        return
    have = presence.sum(dim=1)
    for pattern in torch.from_numpy(all_patterns(modalities)).to(presence.device):
        size = int(pattern.sum())
        among = have.new_tensor([max(1, n * comb(n, size)) for n in range(modalities + 1)])[have]
        yield pattern.expand_as(presence), (presence | ~pattern).all(dim=1) / among


def _ranks(presence: Tensor, noise: Tensor) -> Tensor:
    """(B, M): a random order of what each row has, from 0; what it lacks comes behind."""
    return noise[:, : presence.shape[1]].masked_fill(~presence, 2.0).argsort(dim=1).argsort(dim=1)


def _ends(presence: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    have = presence.sum(dim=1)
    sizes = have.clamp(max=3)
    yield presence, 1 / sizes.clamp(min=1)
    for one in torch.eye(presence.shape[1], dtype=torch.bool, device=presence.device):
        mine = (presence & one).any(dim=1) / (sizes * have).clamp(min=1)
        yield one.expand_as(presence), mine * (have > 1)
        yield presence & ~one, mine * (have > 2)

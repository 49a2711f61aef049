"""What a masked autoencoder may see: some patches of some of the modalities that a row has, exact in number.

M3AE (Liu et al., AAAI 2023) drops a random number of modalities and keeps a fixed number of the patches that are left.
Here rows that lack modalities take part: what they lack is neither kept nor asked. Everything is drawn row by row in
one sort of noise; there is no loop over rows or patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from absentia.layers.subsets import random_subsets

__all__ = ["DROPS", "Drop", "drop_modalities", "grid_of", "keep_patches", "kept_count", "over_patches"]

Drop = Literal["uniform_size", "bernoulli"]
DROPS: tuple[str, ...] = get_args(Drop)


def drop_modalities(
    available: Tensor, draw: torch.Generator, *, how: Drop = "uniform_size", rate: float = 0.5, keep: float = 0.0
) -> Tensor:
    """bool (B, M): what is still shown of `available` bool (B, M); a row that has something shows something.

    uniform_size draws how many stay, evenly from 1 to all, then which; `keep` is the share of rows that show all.
    bernoulli drops each with probability `rate`; of a row that would lose all, one stays, each as likely.
    """
    if how == "uniform_size":
        return random_subsets(available, keep, draw)
    noise = torch.rand(*available.shape, 2, generator=draw).to(available.device)
    shown = available & (noise[..., 0] >= rate)
    last = noise[..., 1].masked_fill(~available, -1.0)
    saved = available & (last == last.max(dim=1, keepdim=True).values)
    return torch.where(shown.any(dim=1, keepdim=True), shown, saved)


def kept_count(available: Tensor, shown: Tensor, patches: int, ratio: float) -> Tensor:
    """long (B,): how many patches a row keeps: (1 - ratio) of those of all it has, rounded down, if as many are shown.

    One at least, so that no row is empty. With everything available this is M3AE's number, int((1 - ratio) M P).
    """
    wanted = ((1 - ratio) * available.sum(dim=1) * patches + 1e-6).floor().long().clamp(min=1)
    return torch.minimum(wanted, shown.sum(dim=1) * patches)


def keep_patches(available: Tensor, shown: Tensor, patches: int, ratio: float, draw: torch.Generator) -> Tensor:
    """bool (B, M, P): the patches that are seen, of shown modalities alone; exactly `kept_count` of each row."""
    rows, modalities = available.shape
    noise = torch.rand(rows, modalities, patches, generator=draw).to(available.device)
    noise = noise.masked_fill(~shown[..., None], 2.0)
    order = noise.flatten(1).argsort(dim=1)
    first = torch.arange(order.shape[1], device=order.device) < kept_count(available, shown, patches, ratio)[:, None]
    return torch.zeros_like(first).scatter(1, order, first).view_as(noise)


def grid_of(space: Sequence[int], patch: int) -> tuple[int, ...]:
    """How many patches lie along each axis; the last ones may be cut short."""
    return tuple(-(-length // patch) for length in space)


def over_patches(seen: Tensor, space: Sequence[int], patch: int) -> Tensor:
    """Patches (B, M, P) as voxels (B, M, *space), in two dimensions or three."""
    out = seen.reshape(*seen.shape[:2], *grid_of(space, patch))
    for axis, length in enumerate(space, start=2):
        out = out.repeat_interleave(patch, dim=axis).narrow(axis, 0, length)
    return out

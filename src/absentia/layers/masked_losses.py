"""Reconstruction losses that ask only about what a row truly has; what is absent is never read."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["present_only", "reconstruction_loss"]

LEAST = 1e-12  # of the weights' sum: a gradient through less of it would leave float32


def present_only(real: Tensor, available: Tensor, instead: Tensor | float = 0.0) -> Tensor:
    """(B, M, ...): the real values of available (B, M) modalities, `instead` in place of all others.

    A product with 0 would not do: what lies in place of an absent modality may be NaN.
    """
    there = available.view(*available.shape, *[1] * (real.dim() - 2))
    other = instead if isinstance(instead, Tensor) else real.new_full((), instead)
    return torch.where(there, real, other)


def reconstruction_loss(
    said: Tensor, real: Tensor, available: Tensor, seen: Tensor, *, hidden: float = 1.0, visible: float = 1.0
) -> Tensor:
    """Squared error about (B, M, C, *space), the weighted mean over all voxels of available (B, M) modalities.

    seen: bool (B, M, *space), what was shown.  hidden, visible: the weights of what was not and of what was. With
    everything available and both weights 1 this is M3AE's mean over all voxels. The gradient is 0 where a modality is
    absent; without anything to ask the loss is 0.
    """
    error = (said - present_only(real, available, said.detach())).square()
    weight = torch.where(seen, said.new_tensor(visible), said.new_tensor(hidden))
    weight = present_only(weight, available)[:, :, None].expand_as(error)
    return (weight * error).sum() / weight.sum().clamp(min=LEAST)

"""Rows of all processes, with gradients to each: what a loss needs that compares rows with each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

__all__ = ["gathered", "processes"]


def processes() -> int:
    """How many learn together."""
    there = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if there else 1


def gathered(x: Tensor, *, learns: bool = True) -> Tensor:
    """(n, ...) of every process one after the other, however many rows each has; x itself where there is one process.

    learns: whether a gradient comes back; the same on all processes, as it is added up over them. A loss of all rows
    that every process computes then has, averaged over processes, the gradient of one process with all rows.
    """
    if processes() == 1:
        return x
    if not learns:
        return _collected(x.detach())[0]
    x = x if x.requires_grad else x.detach().requires_grad_()  # every process takes part in the way back
    return _Gathered.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out, sizes = _collected(x)
        ctx.first, ctx.count = sum(sizes[: distributed.get_rank()]), len(x)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total[ctx.first : ctx.first + ctx.count]


def _collected(x: Tensor) -> tuple[Tensor, list[int]]:
    """All rows, and how many are whose."""
    counts = [torch.zeros(1, dtype=torch.long, device=x.device) for _ in range(processes())]
    distributed.all_gather(counts, torch.tensor([len(x)], device=x.device))
    sizes = [int(count) for count in counts]
    padded = x.new_zeros(max(sizes), *x.shape[1:])
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]), sizes

"""How much each weight matters for what was learned: the diagonal of the Fisher information, and a penalty from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["flat", "pull", "squared_gradients"]


def squared_gradients(
    scores: Tensor, loss: Tensor, parameters: Sequence[Tensor], draw: torch.Generator
) -> list[Tensor]:
    """Per parameter, the sum over rows of the square of the row's own gradient, in one backward pass.

    scores: (B, K), which depend on the parameters.  loss: their mean over the rows.
    Each row's gradient gets a random sign s: the square of their sum has the wanted expectation, because
    E[s_i s_j] = 0 for i other than j.
    """
    (by_row,) = torch.autograd.grad(loss * len(scores), scores, retain_graph=True)
    signs = torch.randint(0, 2, (len(scores), 1), generator=draw).to(by_row) * 2 - 1
    found = torch.autograd.grad(scores, parameters, by_row * signs, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g.square() for p, g in zip(parameters, found, strict=True)]


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """All their numbers in a row."""
    return torch.cat([t.detach().flatten() for t in tensors])


def pull(parameters: Sequence[Tensor], towards: Tensor, weight: Tensor) -> Tensor:
    """Sum of weight * (parameter - towards)², both flat (N,); numbers beyond N are free."""
    total, start = towards.new_zeros(()), 0
    for p in parameters:
        piece = slice(start, start + p.numel())
        if start < len(towards):
            moved = p.flatten() - towards[piece]
            total = total + (weight[piece] * moved.square()).sum()
        start += p.numel()
    return total

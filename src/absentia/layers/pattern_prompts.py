"""Prompts that say which modalities are there: one set for each presence pattern.

Missing-aware prompts (Lee et al., CVPR 2023, arXiv 2303.03369). Where there would be too many patterns, a set is the
sum of what each modality's being there or not adds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["PatternPrompts"]

MOST = 64  # patterns up to which each has a set of its own
STD = 0.02


class PatternPrompts(nn.Module):
    """Presence bool (B, M) to prompts (L, B, P, D); each row has one modality at least.

    The sets are in the order of the modalities' names, so that they do not depend on the schema's.
    """

    def __init__(self, *, names: Sequence[str], layers: int, length: int, width: int) -> None:
        super().__init__()
        self.order = sorted(range(len(names)), key=lambda m: names[m])
        patterns = 2 ** len(names) - 1
        self.summed = patterns > MOST
        count = 2 * len(names) if self.summed else patterns
        self.sets = nn.Parameter(STD * torch.randn(count, layers, length, width))

    def forward(self, presence: Tensor) -> Tensor:
        there = presence[:, self.order]
        if self.summed:
            chosen = torch.cat([there, ~there], dim=1).to(self.sets.dtype)
            return (chosen @ self.sets.flatten(1)).view(-1, *self.sets.shape[1:]).transpose(0, 1)
        code = (there << torch.arange(there.shape[1], device=there.device)).sum(dim=1) - 1
        return self.sets[code].transpose(0, 1)

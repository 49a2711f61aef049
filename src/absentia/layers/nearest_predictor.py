"""The embedding of an absent modality from the row that looks most alike in what is present.

Rows that have two modalities or more are remembered; a guess is the mean of what the nearest of them have. Beside the
closed form it is the other baseline of a learned predictor: no training, and never a guess that is not real.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["NearestPredictor"]


class NearestPredictor(nn.Module):
    """Embeddings (B, M, D) and presence bool (B, M) to guesses (B, M, D) where something is absent.

    neighbours: whose mean a guess is.  most: rows remembered; of more, evenly spaced ones.
    """

    def __init__(self, *, modalities: int, width: int, neighbours: int = 1, most: int = 4096) -> None:
        super().__init__()
        self.neighbours, self.most = neighbours, most
        self.register_buffer("memory", torch.zeros(most, modalities, width))
        self.register_buffer("has", torch.zeros(most, modalities, dtype=torch.bool))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("spacing", torch.ones((), dtype=torch.long))
        self.register_buffer("passed", torch.zeros((), dtype=torch.long))
        self.register_buffer("spread", torch.ones(modalities))
        self.memory: Tensor
        self.has: Tensor
        self.count: Tensor
        self.spacing: Tensor
        self.passed: Tensor
        self.spread: Tensor

    @torch.no_grad()
    def add(self, embeddings: Tensor, presence: Tensor) -> None:
        """Remember rows that have two modalities or more; what is absent may hold anything."""
        useful = presence.sum(dim=1) > 1
        for z, there in zip(embeddings[useful], presence[useful], strict=True):
            if int(self.passed) % int(self.spacing) == 0:
                self._keep(z, there)
            self.passed += 1

    @torch.no_grad()
    def solve(self) -> None:
        """Distances count in the mean variance of a modality's embeddings."""
        memory, has = self._remembered
        for m in range(has.shape[1]):
            rows = memory[has[:, m], m]
            self.spread[m] = rows.var(dim=0).mean().clamp(min=1e-12) if len(rows) > 1 else 1.0

    @torch.no_grad()
    def forward(self, embeddings: Tensor, presence: Tensor, mean: Tensor) -> Tensor:
        """mean: (M, D), the guess where no remembered row has both what is present and what is not."""
        memory, has = self._remembered
        distance, shared = self._compared(embeddings, presence, memory, has)
        out = embeddings.clone()
        for t in range(presence.shape[1]):
            rows = (~presence[:, t]).nonzero()[:, 0]
            able = (shared[rows] > 0) & has[:, t]  # (n, N)
            out[rows, t] = self._guessed(distance[rows].masked_fill(~able, torch.inf), memory[:, t], mean[t])
        return out

    def _compared(self, z: Tensor, presence: Tensor, memory: Tensor, has: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) mean distances over the modalities that both rows have, and how many these are."""
        both = presence[:, None] & has  # (B, N, M)
        apart = torch.stack([_apart(z[:, m], memory[:, m]) for m in range(z.shape[1])], dim=2)
        shared = both.sum(dim=2)
        return (apart / self.spread).masked_fill(~both, 0.0).sum(dim=2) / shared.clamp(min=1), shared

    def _guessed(self, distance: Tensor, values: Tensor, mean: Tensor) -> Tensor:
        """(n, D): the mean of the values (N, D) with the least distance (n, N); `mean` where none is finite."""
        if not len(values):
            return mean.to(values).expand(len(distance), -1)
        near = distance.topk(min(self.neighbours, len(values)), dim=1, largest=False)
        weight = near.values.isfinite().to(values.dtype)  # (n, k)
        found = (values[near.indices] * weight[..., None]).sum(dim=1) / weight.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.where(weight.any(dim=1, keepdim=True), found, mean.to(values))

    @property
    def _remembered(self) -> tuple[Tensor, Tensor]:
        return self.memory[: int(self.count)], self.has[: int(self.count)]

    def _keep(self, z: Tensor, there: Tensor) -> None:
        if int(self.count) == self.most:  # every second row goes, and of those to come
            half = self.memory[: self.most : 2].clone(), self.has[: self.most : 2].clone()
            self.memory.zero_(), self.has.zero_()
            self.count.fill_(len(half[0]))
            self.memory[: len(half[0])], self.has[: len(half[1])] = half
            self.spacing *= 2
            if int(self.passed) % int(self.spacing):
                return
        place = int(self.count)
        self.memory[place], self.has[place] = z.masked_fill(~there[:, None], 0.0), there
        self.count += 1


def _apart(one: Tensor, other: Tensor) -> Tensor:
    """(n, N) squared distances; not by a matrix product, whose last bits depend on who is compared beside them."""
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist").square()

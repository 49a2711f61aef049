"""Gated fusion: how much each modality of a row says in every dimension, decided by what all of them say.

The fusion of FOP (Saeed et al., ICASSP 2022, arXiv 2112.10483) for two modalities, k tanh(a) + (1 - k) tanh(b) with
k = sigmoid(gate([a, b])). A sigmoid is the softmax of two scores, one of which is 0; so it is here the softmax over
whatever modalities a row has, and one that is absent has no share in it and no say in the scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from absentia.layers.exactly import exact
from absentia.layers.shared_trunk import LoneBatchNorm

__all__ = ["GatedFusion"]


class GatedFusion(nn.Module):
    """Embeddings by modality, (n_m, D) each, to one vector per row (B, D); it begins as the mean of their tanh.

    names: modalities in the order of the gate's inputs; the last one's scores are 0.
    batch_norm: within the gate, as published; else a norm of each row.
    """

    def __init__(self, *, names: Sequence[str], width: int, batch_norm: bool) -> None:
        super().__init__()
        self.names, self.width = list(names), width
        self.gate = _gate(len(self.names), width, batch_norm) if len(self.names) > 1 else None

    def forward(self, parts: Mapping[str, Tensor], presence: Tensor, names: Sequence[str]) -> Tensor:
        """parts: (n_m, D) of the rows that have the modality.  presence: bool (B, M), in the order of `names`."""
        order = [names.index(name) for name in self.names]
        there = presence[:, order]
        said = self._laid(parts, there)
        shares = self._scores(said).masked_fill(~there[..., None], float("-inf")).softmax(dim=1)
        return (shares * torch.tanh(said)).sum(dim=1)

    def _laid(self, parts: Mapping[str, Tensor], there: Tensor) -> Tensor:
        """(B, M, D): what each modality says, zeros where it is absent."""
        like = exact(next(iter(parts.values())))
        said = like.new_zeros(*there.shape, self.width)
        for m, name in enumerate(self.names):
            if name in parts:
                said[there[:, m], m] = exact(parts[name])
        return said

    def _scores(self, said: Tensor) -> Tensor:
        """(B, M, D)"""
        last = said.new_zeros(len(said), 1, self.width)
        if self.gate is None:
            return last
        scores = exact(self.gate(said.flatten(1))).view(len(said), -1, self.width)
        return torch.cat([scores, last], dim=1)


def _gate(count: int, width: int, batch_norm: bool) -> nn.Sequential:
    norm = LoneBatchNorm(width) if batch_norm else nn.LayerNorm(width)
    last = nn.Linear(width, (count - 1) * width)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(count * width, width), norm, nn.ReLU(), last)

"""Guesses of embeddings, by source and target: put together, restricted, and paired with what they guess."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

import torch
from torch import Tensor

from absentia.layers.gathered import processes
from absentia.layers.predictors import Predicted, combined
from absentia.methods.joint_embedding_objectives import Pair

__all__ = ["Embeddings", "Guessed", "directed_pairs", "of_shown", "together"]

Embeddings = dict[str, Tensor]
Guessed = dict[tuple[str, str], Predicted]
"""By source and target, for the rows that have the source."""


def together(presence: Tensor, predicted: Guessed, names: Sequence[str]) -> Embeddings:
    """What all present sources say of each modality, weighted by how sure they are: (B, D) each."""
    out = {}
    for target in names:
        means, spreads, there = [], [], []
        for (source, other), made in predicted.items():
            if other == target:
                rows = presence[:, names.index(source)]
                place = rows.nonzero()[:, 0]
                means.append(made.mean.new_zeros(len(rows), made.mean.shape[1]).index_copy(0, place, made.mean))
                spreads.append(made.log_variance.new_zeros(len(rows)).index_copy(0, place, made.log_variance))
                there.append(rows)
        if means:
            out[target] = combined(torch.stack(means), torch.stack(spreads), torch.stack(there))
    return out


def of_shown(predicted: Guessed, presence: Tensor, shown: Tensor, names: Sequence[str]) -> Guessed:
    """Only what sources that are shown say."""
    out: Guessed = {}
    for (source, target), made in predicted.items():
        rows = shown[presence[:, names.index(source)], names.index(source)]
        out[source, target] = Predicted(made.mean[rows], made.log_variance[rows])
    return out


def directed_pairs(
    presence: Tensor, predicted: Guessed, own: Mapping[str, Tensor], names: Sequence[str], nothing: Tensor
) -> Iterator[Pair]:
    """Guess and truth of every directed pair, on rows that have both, and on all rows of either.

    Of several processes each has all pairs, in the same order, also those of which it has no rows.
    nothing: (0, D), embeddings of no rows.
    """
    for source, target in permutations(sorted(names), 2):
        made, true = predicted.get((source, target)), own.get(target)
        if processes() == 1 and (made is None or true is None):
            continue
        s, t = names.index(source), names.index(target)
        both = presence[:, s] & presence[:, t]
        yield Pair(
            made or Predicted(nothing, nothing[:, 0]),
            nothing if true is None else true,
            both[presence[:, s]],
            both[presence[:, t]],
        )

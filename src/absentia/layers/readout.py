"""One representation of a row from those of whatever modalities it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

__all__ = ["mean_of_present"]


def mean_of_present(parts: Mapping[str, Tensor], presence: Tensor, names: Sequence[str]) -> Tensor:
    """(B, D): the mean over the modalities that a row has; each row has one at least.

    parts: per modality (n_m, D) of its present rows, in row order.  presence: bool (B, M), in the order of `names`.
    """
    like = next(iter(parts.values()))
    total = like.new_zeros(len(presence), like.shape[1])
    for m, name in enumerate(names):
        if name in parts:
            total = total.index_add(0, presence[:, m].nonzero()[:, 0], parts[name])
    return total / presence.sum(dim=1, keepdim=True)

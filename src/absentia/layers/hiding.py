"""What a self-supervised step takes away: some tokens of a modality, all of them, or the modality of another row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["exchanged", "hidden_tokens", "picked_modality"]


def hidden_tokens(valid: Tensor, share: float, *, alone: Tensor, whole: Tensor, draw: torch.Generator) -> Tensor:
    """bool (n, T): of the tokens of each row (valid, bool (n, T)) the share that is hidden, rounded by chance.

    alone, bool (n,): rows that have nothing else, of which one token stays.  whole, bool (n,): rows that lose all.
    """
    count = valid.sum(dim=1)
    noise = torch.rand(valid.shape[0], valid.shape[1] + 1, generator=draw).to(valid.device)
    wanted = (share * count + noise[:, -1]).floor().long()
    wanted = torch.where(alone, torch.minimum(wanted, (count - 1).clamp(min=0)), wanted)
    wanted = torch.where(whole, count, wanted)
    rank = noise[:, :-1].masked_fill(~valid, 2.0).argsort(dim=1).argsort(dim=1)
    return valid & (rank < wanted[:, None])


def picked_modality(presence: Tensor, draw: torch.Generator) -> Tensor:
    """long (B,): one of the present modalities of each row, evenly; 0 where there is none."""
    noise = torch.rand(presence.shape, generator=draw).to(presence.device)
    return noise.masked_fill(~presence, -1.0).argmax(dim=1)


def exchanged(inputs: Mapping[str, Tensor], rows: Tensor, draw: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
    """The inputs (n, ...) of one modality, those of `rows` (bool (n,)) replaced by another row's.

    Also which rows have something else than before, bool (n,): the other row's may happen to be the same.
    """
    n = len(rows)
    step = 1 + (torch.rand(n, generator=draw).to(rows.device) * (n - 1)).floor().long()
    source = torch.arange(n, device=rows.device)
    source = torch.where(rows & (n > 1), (source + step) % n, source)
    new = {key: x[source] for key, x in inputs.items()}
    same = torch.stack([(new[key] == x).flatten(1).all(dim=1) for key, x in inputs.items()]).all(dim=0)
    return new, ~same

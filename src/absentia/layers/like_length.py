"""Rows of unlike lengths in groups of like ones: every group is padded to its own longest, and not to that of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["LengthGroups", "neighbours"]


def neighbours(ascending: Tensor, *, share: float, tokens: int) -> tuple[int, ...]:
    """Sizes of the groups of neighbours among rows whose lengths (n,) ascend.

    A group ends before the row that would pad its shortest by more than `tokens` and by more than `share` of the row's
    own length. With 0 and 0 all rows of a group are equally long.
    """
    groups: list[int] = []
    shortest = 0
    for length, count in Counter(ascending.tolist()).items():
        if groups and length - shortest <= max(tokens, share * length):
            groups[-1] += count
        else:
            groups.append(count)
            shortest = length
    return tuple(groups)


@dataclass(frozen=True)
class LengthGroups:
    """The rows of a padded batch in groups, the shortest first.

    rows: per group (n_g,) long, which rows.  widths: per group the length of its longest row.
    """

    rows: tuple[Tensor, ...]
    widths: tuple[int, ...]

    @staticmethod
    def of(lengths: Tensor, *, share: float = 0.0, tokens: int = 0) -> LengthGroups:
        """Groups of rows of these lengths (n,), as `neighbours` says."""
        ascending, order = lengths.sort(stable=True)
        rows = torch.split(order, list(neighbours(ascending, share=share, tokens=tokens)))
        return LengthGroups(rows, tuple(int(lengths[some[-1]]) for some in rows))

    def split(self, inputs: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Named inputs (n, T, ...) group by group, (n_g, T_g, ...)."""
        for rows, width in zip(self.rows, self.widths, strict=True):
            yield {name: x[rows, :width] for name, x in inputs.items()}

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """What became of the groups, (n_g, T_g, ...) each, in the order of the batch: (n, T, ...), zeros behind."""
        longest = max(part.shape[1] for part in parts)
        padded = [F.pad(x, (*[0, 0] * (x.dim() - 2), 0, longest - x.shape[1])) for x in parts]
        return torch.cat(padded)[torch.cat(self.rows).argsort()]

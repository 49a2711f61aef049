"""Where the tokens of a batch lie: one (N, D) tensor of those that exist, and the rectangles of attention.

Absent modalities and padding have no place here at all. Samples stand one after the other, sorted by length:
a group of equally long neighbours is a view of the packed tensor, without copy or mask, and a group of nearly
equally long ones is padded to its own longest.
`benchmarks/attention_views.py` compares this with other ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from absentia.layers.like_length import neighbours

__all__ = ["Grid", "Packing", "Segment"]

# A group is padded by at most this share or this many tokens: few groups, logarithmic in the lengths.
SLACK_SHARE, SLACK_TOKENS = 0.05, 8


class Segment(NamedTuple):
    """What one modality contributes to the sequences of a batch; n of the B samples have it.

    tokens (n, T, D): [CLS] of the modality at index 0, modality-type embedding already added.
    valid (n, T) bool: padding is False; column 0 is always True.
    rows (n,) long, strictly increasing: which sample of the batch each row belongs to.
    """

    tokens: Tensor
    valid: Tensor
    rows: Tensor


class Grid(NamedTuple):
    """How the packed tokens of a few neighbouring samples fill a rectangle, `samples` by `width`."""

    samples: int
    width: int
    tokens: int
    slot: Tensor | None  # (tokens,) long, place of each token in samples * width; None: no padding

    @staticmethod
    def of(lengths: Sequence[int], device: torch.device) -> Grid:
        """The rectangle for samples of these lengths."""
        width, tokens = max(lengths), sum(lengths)
        if tokens == width * len(lengths):
            return Grid(len(lengths), width, tokens, None)
        filled = torch.arange(width) < torch.tensor(lengths)[:, None]
        return Grid(len(lengths), width, tokens, filled.flatten().nonzero()[:, 0].to(device))

    def spread(self, packed: Tensor) -> Tensor:
        """(tokens, D) -> (samples, width, D), padding is zero."""
        width = packed.shape[1]
        if self.slot is not None:
            packed = packed.new_zeros(self.samples * self.width, width).index_copy_(0, self.slot, packed)
        return packed.view(self.samples, self.width, width)

    def collect(self, rectangle: Tensor) -> Tensor:
        """(samples, width, D) -> (tokens, D), padding is left behind."""
        packed = rectangle.reshape(self.samples * self.width, rectangle.shape[2])
        return packed if self.slot is None else packed.index_select(0, self.slot)

    def filled(self) -> Tensor | None:
        """bool (samples, width): where there is a token; None: everywhere."""
        if self.slot is None:
            return None
        places = torch.zeros(self.samples * self.width, dtype=torch.bool, device=self.slot.device)
        return places.index_fill(0, self.slot, True).view(self.samples, self.width)


@dataclass(frozen=True)
class Packing:
    """The order of the N existing tokens of a batch and the way back to the segments they came from.

    order (V,) long: the samples that have tokens, as they stand in the packed tensor (V <= B).
    sample (N,) long: the sample each packed token belongs to.
    places: per segment (n, T) long, where each valid token stands in the packed tensor (not so for padding).
    groups: per group of neighbours, how many samples; grids: the same groups as rectangles of tokens.
    modalities: so many of the segments are modalities; what follows are inserted tokens, which have no [CLS].
    """

    order: Tensor
    sample: Tensor
    segments: tuple[Segment, ...]
    places: tuple[Tensor, ...]
    groups: tuple[int, ...]
    grids: tuple[Grid, ...]
    modalities: int

    @staticmethod
    def of(segments: Sequence[Segment], size: int, device: torch.device, inserted: Segment | None = None) -> Packing:
        """Lay out the tokens of `size` samples. Raises ValueError for segments that break their contract."""
        modalities = len(segments)
        segments = (*segments, inserted) if inserted is not None else tuple(segments)
        for number, segment in enumerate(segments):
            _check(segment, size, f"segment {number}")
        lengths = torch.zeros(size, dtype=torch.long, device=device)
        inside = []  # per segment (n, T): place of each token within its own sample
        for _, valid, rows in segments:
            inside.append(lengths[rows, None] + valid.cumsum(1) - 1)
            lengths = lengths.index_add(0, rows, valid.sum(1))
        ascending, order = lengths.sort(stable=True)
        order, ascending = order[ascending > 0], ascending[ascending > 0]
        start = torch.zeros_like(lengths).index_copy(0, order, ascending.cumsum(0) - ascending)
        groups = neighbours(ascending, share=SLACK_SHARE, tokens=SLACK_TOKENS)
        return Packing(
            order=order,
            sample=order.repeat_interleave(ascending),
            segments=segments,
            places=tuple(start[s.rows, None] + place for s, place in zip(segments, inside, strict=True)),
            groups=groups,
            grids=_grids(ascending, groups),
            modalities=modalities,
        )

    def pack(self, like: Tensor) -> Tensor:
        """The tokens that are there, (N, D); `like` (D,) says width, type and device when there are none."""
        if not self.segments:
            return like.new_zeros(0, like.shape[0])
        tokens = torch.cat([segment.tokens[segment.valid] for segment in self.segments])
        places = torch.cat([place[s.valid] for place, s in zip(self.places, self.segments, strict=True)])
        return torch.zeros_like(tokens).index_copy_(0, places, tokens)

    def unpack(self, packed: Tensor, segment: int) -> Tensor:
        """(N, D) -> (n, T, D) of one segment, padding is zero."""
        valid = self.segments[segment].valid
        there = packed.index_select(0, self.places[segment][valid])
        blank = packed.new_zeros(valid.numel(), packed.shape[1])
        return blank.index_copy_(0, valid.flatten().nonzero()[:, 0], there).view(*valid.shape, packed.shape[1])

    @cached_property
    def cls(self) -> Tensor:
        """(C,) long: where the [CLS] of every segment stand in the packed tensor, in packed order."""
        return torch.cat([self.sample[:0], *map(self.cls_places, range(self.modalities))]).sort().values

    def cls_places(self, segment: int) -> Tensor:
        """(n,) long: where a segment's [CLS] stand in the packed tensor."""
        return self.places[segment][:, 0]

    def cls_grids(self) -> tuple[Grid, ...]:
        """The groups once more, as rectangles of the [CLS] alone."""
        return _grids(self.sample[self.cls].bincount()[self.order], self.groups)


def _check(segment: Segment, size: int, name: str) -> None:
    tokens, valid, rows = segment
    if tokens.shape[:2] != valid.shape or rows.shape != valid.shape[:1]:
        raise ValueError(
            f"{name}: tokens {tuple(tokens.shape)}, valid {tuple(valid.shape)} and rows {tuple(rows.shape)} "
            "do not belong together; expected (n, T, D), (n, T) and (n,)"
        )
    if not len(rows):
        return
    if int(rows[0]) < 0 or int(rows[-1]) >= size or bool((rows[1:] <= rows[:-1]).any()):
        raise ValueError(f"{name}: rows must be strictly increasing sample numbers below {size}")
    if not bool(valid[:, :1].all()):
        raise ValueError(f"{name}: column 0, the [CLS], must be valid in every row")


def _grids(lengths: Tensor, groups: Sequence[int]) -> tuple[Grid, ...]:
    remaining = iter(lengths.tolist())
    return tuple(Grid.of(list(islice(remaining, count)), lengths.device) for count in groups)

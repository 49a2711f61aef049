"""The tokens of a batch laid out by row, so that several passes can show the same rows with other modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from absentia.data.batch import Batch
from absentia.layers.packing import Segment
from absentia.models.backbone import FusedBackbone

__all__ = ["Laid", "embedded", "only_cls"]


@dataclass(frozen=True)
class Laid:
    """Per modality tokens (B, T, D) and where they are real, bool (B, T); one row (B = 1) stands for all."""

    tokens: Mapping[str, Tensor]
    valid: Mapping[str, Tensor]

    def shown(self, presence: Tensor, instead: Laid, rows: Tensor) -> list[Segment]:
        """The rows (n,) with the modalities that `presence` (n, M) says, and in place of the others what `instead` has.

        One segment for each modality, in order; every row is in all of them.
        """
        everyone = torch.arange(len(rows), device=rows.device)
        return [
            _either(presence[:, m], self._of(name, rows), instead._of(name, rows), everyone)
            for m, name in enumerate(self.tokens)
        ]

    def _of(self, name: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        tokens, valid = self.tokens[name], self.valid[name]
        if len(tokens) == 1:
            return tokens.expand(len(rows), -1, -1), valid.expand(len(rows), -1)
        return tokens.index_select(0, rows), valid.index_select(0, rows)


def embedded(backbone: FusedBackbone, batch: Batch) -> Laid:
    """The tokens of what is present; rows that lack a modality have nothing valid there."""
    segments, tokens, valid = backbone.segments(batch), {}, {}
    for name in backbone.names:
        if name not in segments:
            continue
        own, real, rows = segments[name]
        tokens[name] = own.new_zeros(len(batch), *own.shape[1:]).index_copy(0, rows, own)
        valid[name] = real.new_zeros(len(batch), real.shape[1]).index_copy(0, rows, real)
    return Laid(*_for_all(backbone, tokens, valid, len(batch)))


def only_cls(backbone: FusedBackbone) -> Laid:
    """All that an absent modality contributes: its [CLS]."""
    cls: Sequence[Tensor] = [backbone.embedder(name).cls() for name in backbone.names]  # type: ignore[operator]
    real = torch.ones(1, 1, dtype=torch.bool, device=backbone.transformer.norm.weight.device)
    return Laid(
        {name: one[None, None] for name, one in zip(backbone.names, cls, strict=True)},
        dict.fromkeys(backbone.names, real),
    )


def _for_all(
    backbone: FusedBackbone, tokens: Mapping[str, Tensor], valid: Mapping[str, Tensor], size: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """In schema order, with a column of nothing for what no row has."""
    like = backbone.transformer.norm.weight
    nothing = (like.new_zeros(size, 1, len(like)), torch.zeros(size, 1, dtype=torch.bool, device=like.device))
    both = {name: (tokens[name], valid[name]) if name in tokens else nothing for name in backbone.names}
    return {name: t for name, (t, _) in both.items()}, {name: v for name, (_, v) in both.items()}


def _either(here: Tensor, real: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], rows: Tensor) -> Segment:
    """Row by row the real tokens or the others, padded to one length."""
    length = max(real[0].shape[1], other[0].shape[1])
    (a, a_valid), (b, b_valid) = (_padded(*part, length) for part in (real, other))
    return Segment(a.where(here[:, None, None], b.to(a.dtype)), a_valid.where(here[:, None], b_valid), rows)


def _padded(tokens: Tensor, valid: Tensor, length: int) -> tuple[Tensor, Tensor]:
    short = length - tokens.shape[1]
    return F.pad(tokens, (0, 0, 0, short)), F.pad(valid, (0, short))

"""The tokens of a batch, embedded once; passes of the backbone take from them the rows and modalities they show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from absentia.data.batch import Batch
from absentia.layers.packing import Segment
from absentia.models.backbone import FusedBackbone
from absentia.models.fused import Prompts

__all__ = ["Laid", "lone_cls", "whole_blanks"]


@dataclass(frozen=True)
class Laid:
    """What the backbone can be shown of B rows.

    here: per modality the tokens of the rows that have it; one that no row has is missing.
    instead: per modality what stands in an absent one's place, one row for all of the batch or one for each; with
    nothing in it absent modalities are not there at all.
    """

    backbone: FusedBackbone
    here: Mapping[str, Segment]
    instead: Mapping[str, Segment]

    @staticmethod
    def of(backbone: FusedBackbone, batch: Batch, instead: Mapping[str, Segment]) -> Laid:
        """Embed what the rows of a batch have."""
        return Laid(backbone, backbone.segments(batch), instead)

    def run(self, rows: Tensor, shown: Tensor, prompts: Prompts | None = None) -> Tensor:
        """(n, M, D): the [CLS] outputs of `rows` (n,) that show `shown` bool (n, M); zeros where there is no [CLS].

        A row may be there several times. What it shows it must have. The prompts are those of the n rows.
        """
        parts = [part for m, name in enumerate(self.backbone.names) for part in self._parts(m, name, rows, shown[:, m])]
        output = self.backbone.transformer([segment for _, segment in parts], len(rows), prompts, rows="cls")
        out: Tensor = output.packed.new_zeros(*shown.shape, self.backbone.width)
        for number, (m, segment) in enumerate(parts):
            out[segment.rows, m] = output.cls(number)
        return out

    def _parts(self, m: int, name: str, rows: Tensor, shown: Tensor) -> list[tuple[int, Segment]]:
        """One segment for the rows that show a modality, one for those in which something stands in its place."""
        out = []
        for source, wanted in ((self.here, shown), (self.instead, ~shown)):
            places = wanted.nonzero()[:, 0]
            if name in source and len(places):
                out.append((m, _taken(source[name], rows[places], places)))
        return out


def lone_cls(backbone: FusedBackbone) -> dict[str, Segment]:
    """In place of an absent modality its [CLS], and nothing else."""
    device = backbone.transformer.norm.weight.device
    one, first = torch.ones(1, 1, dtype=torch.bool, device=device), torch.zeros(1, dtype=torch.long, device=device)
    cls: dict[str, Tensor] = {name: backbone.embedder(name).cls() for name in backbone.names}  # type: ignore[operator]
    return {name: Segment(token[None, None], one, first) for name, token in cls.items()}


def whole_blanks(backbone: FusedBackbone, blanks: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Segment]:
    """In place of an absent modality all tokens of a placeholder; `blanks` has the inputs of one row, each (1, ...)."""
    device = backbone.transformer.norm.weight.device
    batch = Batch(
        presence=torch.ones(1, len(blanks), dtype=torch.bool),
        inputs={name: dict(blank) for name, blank in blanks.items()},
        index=torch.zeros(1, dtype=torch.long),
    )
    return backbone.segments(batch.to(device))


def _taken(source: Segment, rows: Tensor, places: Tensor) -> Segment:
    """The tokens of `rows` (n,), for the samples `places` (n,) of a pass."""
    single = len(source.rows) == 1
    which = torch.zeros_like(rows) if single else torch.searchsorted(source.rows, rows)
    return Segment(source.tokens.index_select(0, which), source.valid.index_select(0, which), places)

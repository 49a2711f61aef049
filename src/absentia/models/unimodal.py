"""An encoder for one modality alone: what its row is, and the keys and values that read-only prompts look at.

A pretrained encoder whose layers are known is taken as it is; anything else, our own embedders among it, is followed by
a transformer of its own. Features of a frozen encoder are one vector, in which there is nothing for prompts to read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from absentia.layers.packing import Segment
from absentia.layers.side_stream import KeysValues, SideLayer, final_norm, heard, side_layers
from absentia.models.encoders.pretrained import FeatureEmbedder, TunedEmbedder
from absentia.models.fused import FusedTransformer

__all__ = ["Encoded", "Unimodal"]

Whole = Callable[[Sequence[Tensor]], Tensor]
"""What a projection made of groups of rows, one after the other, as (n, T, d)."""


@dataclass(frozen=True)
class Encoded:
    """rows: (n, D), one embedding each.  there: per layer what prompts can read; empty where they cannot."""

    rows: Tensor
    there: list[KeysValues]

    def detached(self) -> Encoded:
        """Without a way back to the encoder."""
        return Encoded(self.rows.detach(), [one.detached() for one in self.there])


class Unimodal(nn.Module):
    """Inputs of n rows that have the modality to embeddings (n, D).

    embedder: tokens behind a [CLS].  transformer: over these tokens; not used where a pretrained encoder has layers.
    """

    def __init__(self, *, embedder: nn.Module, transformer: FusedTransformer) -> None:
        super().__init__()
        self.embedder = embedder
        self.pretrained = isinstance(embedder, TunedEmbedder) and side_layers(embedder.encoder.model) is not None
        self.transformer: FusedTransformer | None = None if self.pretrained else transformer
        self.norm = nn.LayerNorm(transformer.width) if self.pretrained else nn.Identity()

    @property
    def readable(self) -> bool:
        """Whether prompts find anything to read."""
        return not isinstance(self.embedder, FeatureEmbedder)

    @property
    def layers(self) -> list[SideLayer]:
        """The layers that prompts pass."""
        found = side_layers(self._model)
        assert found is not None
        return found

    @property
    def read_width(self) -> int:
        """d: size of a token in these layers."""
        return self._encoder.width if self.pretrained else self._own.width

    @property
    def final_norm(self) -> nn.Module:
        """The norm behind the last layer, where the encoder has one."""
        return final_norm(self._model) if self.pretrained else self._own.norm

    def forward(self, *, listen: bool = False, **inputs: Tensor) -> Encoded:
        """listen: whether keys and values are wanted too."""
        layers = self.layers if listen and self.readable else []
        with heard(layers) as found:
            rows, valid, whole = self._pretrained(inputs) if self.pretrained else self._fused(inputs)
        there = []
        for number, layer in enumerate(layers):
            keys, values = zip(*found[number :: len(layers)], strict=True)  # of every group of rows that ran
            there.append(KeysValues(_split(whole(keys), layer.heads), _split(whole(values), layer.heads), valid))
        return Encoded(rows, there)

    def _fused(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor | None, Whole]:
        tokens, valid = self.embedder(**inputs)
        segment = Segment(tokens, valid, torch.arange(len(tokens), device=tokens.device))
        packing = self._own.pack([segment], len(tokens))
        output = self._own.run(packing, rows="cls")
        return output.cls(0), None if bool(valid.all()) else valid, lambda parts: packing.unpack(parts[0], 0)

    def _pretrained(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor | None, Whole]:
        embedder: Any = self.embedder
        tokens, valid = self._encoder(**inputs)
        rows = self.norm(embedder.project(self._encoder.pooled_from(tokens, valid)))
        groups = self._encoder.groups(inputs)
        return rows, None if bool(valid.all()) else valid, groups.joined if groups else itemgetter(0)

    @property
    def _own(self) -> FusedTransformer:
        assert self.transformer is not None
        return self.transformer

    @property
    def _encoder(self) -> Any:
        embedder: Any = self.embedder
        return embedder.encoder

    @property
    def _model(self) -> Any:
        return self._encoder.model if self.pretrained else self._own


def _split(x: Tensor, heads: int) -> Tensor:
    """(n, T, D) -> (n, H, T, D / H)"""
    n, count, width = x.shape
    return x.view(n, count, heads, width // heads).transpose(1, 2)

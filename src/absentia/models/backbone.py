"""The fused backbone with its embedders: a batch in, what became of its tokens out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from absentia.data.batch import Batch
from absentia.layers.naming import module_key
from absentia.models.fused import FusedTransformer, Prompts, Segment

__all__ = ["FusedBackbone", "Represented", "mean_of_tokens"]


@dataclass(frozen=True)
class Represented:
    """What a backbone makes of a batch, per modality for its present rows (n_m, D).

    together: the [CLS] outputs, after the modalities of a row have met.
    alone: the mean of the modality's own tokens, before they meet any other.
    """

    together: dict[str, Tensor]
    alone: dict[str, Tensor]


class FusedBackbone(nn.Module):
    """Embedders by modality (in schema order) and the transformer that their tokens meet in."""

    def __init__(self, *, embedders: Mapping[str, nn.Module], transformer: FusedTransformer) -> None:
        super().__init__()
        self.frozen = False
        self.names = list(embedders)
        self.embedders = nn.ModuleDict({module_key(name): e for name, e in embedders.items()})
        self.transformer = transformer

    @property
    def width(self) -> int:
        """D."""
        return self.transformer.width

    def embedder(self, name: str) -> nn.Module:
        """The embedder of a modality."""
        return self.embedders[module_key(name)]

    def freeze(self) -> FusedBackbone:
        """From now on nothing in it learns, and nothing is dropped in training either: a row's answer is settled."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> FusedBackbone:
        """Training mode, unless it is frozen."""
        super().train(mode and not self.frozen)
        return self

    def segments(self, batch: Batch) -> dict[str, Segment]:
        """The tokens of the modalities that are there, in schema order; absent ones contribute none."""
        out = {}
        for m, name in enumerate(self.names):
            if name in batch.inputs:
                tokens, valid = self.embedder(name)(**batch.inputs[name])
                out[name] = Segment(tokens=tokens, valid=valid, rows=batch.presence[:, m].nonzero()[:, 0])
        return out

    def forward(self, batch: Batch, prompts: Prompts | None = None) -> Represented:
        """All tokens of the batch through the transformer; of its last layer only the [CLS] are computed."""
        segments = self.segments(batch)
        output = self.transformer(list(segments.values()), len(batch), prompts, rows="cls")
        together = {name: output.cls(i) for i, name in enumerate(segments)}
        return Represented(together=together, alone={name: mean_of_tokens(s) for name, s in segments.items()})


def mean_of_tokens(segment: Segment) -> Tensor:
    """(n, D): mean of the real tokens of a segment."""
    weight = segment.valid[..., None].to(segment.tokens.dtype)
    return (segment.tokens * weight).sum(dim=1) / weight.sum(dim=1)

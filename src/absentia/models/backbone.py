"""The fused backbone with its embedders: a batch in, what became of its tokens out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from absentia.data.batch import Batch
from absentia.models.encoders.base import Embedder
from absentia.models.fused import FusedOutput, FusedTransformer, Prompts, Segment

__all__ = ["FusedBackbone"]


class FusedBackbone(nn.Module):
    """Embedders by modality (in schema order) and the transformer that their tokens meet in."""

    def __init__(self, *, embedders: Mapping[str, Embedder], transformer: FusedTransformer) -> None:
        super().__init__()
        self.names = list(embedders)
        self.embedders = nn.ModuleDict({f"m_{name}": e for name, e in embedders.items()})  # any name is legal
        self.transformer = transformer

    @property
    def width(self) -> int:
        """D."""
        return self.transformer.width

    def embedder(self, name: str) -> nn.Module:
        """The embedder of a modality."""
        return self.embedders[f"m_{name}"]

    def segments(self, batch: Batch) -> list[Segment]:
        """The tokens of the modalities that are there, in schema order; absent ones contribute none."""
        out = []
        for m, name in enumerate(self.names):
            if name in batch.inputs:
                tokens, valid = self.embedder(name)(**batch.inputs[name])
                out.append(Segment(tokens=tokens, valid=valid, rows=batch.presence[:, m].nonzero()[:, 0]))
        return out

    def forward(self, batch: Batch, prompts: Prompts | None = None) -> FusedOutput:
        """All tokens of the batch through the transformer; `segments` says which segment is which."""
        return self.transformer(self.segments(batch), len(batch), prompts)  # type: ignore[no-any-return]

    def embeddings(self, batch: Batch, prompts: Prompts | None = None) -> dict[str, Tensor]:
        """Per present modality the [CLS] outputs (n_m, D) of its rows."""
        there = [name for name in self.names if name in batch.inputs]
        output = self.transformer(self.segments(batch), len(batch), prompts, rows="cls")
        return {name: output.cls(i) for i, name in enumerate(there)}

    def pooled(self, embeddings: Mapping[str, Tensor], presence: Tensor) -> Tensor:
        """(B, D): the mean of a row's [CLS] outputs, so that their number does not show; zeros where none is."""
        return mean_of_present(embeddings, presence, self.names)


def mean_of_present(embeddings: Mapping[str, Tensor], presence: Tensor, names: Sequence[str]) -> Tensor:
    """(B, D): mean over the modalities a row has, from per-modality (n_m, D) and presence (B, M)."""
    some = next(iter(embeddings.values()), None)
    width, like = (some.shape[1], some) if some is not None else (1, torch.zeros(()))
    total = like.new_zeros(len(presence), width)
    for m, name in enumerate(names):
        if name in embeddings:
            total = total.index_add(0, presence[:, m].nonzero()[:, 0], embeddings[name])
    return total / presence.sum(dim=1, keepdim=True).clamp(min=1).to(total.dtype)

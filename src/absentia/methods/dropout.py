"""Modality dropout with presence-aware attention: absent tokens are not there, and training hides more of them."""

from __future__ import annotations

import torch
from torch import Tensor

from absentia.data.batch import Batch
from absentia.layers.heads import Head
from absentia.layers.subsets import random_subsets
from absentia.methods.base import Method, Output, Parts, Stage

__all__ = ["Dropout"]

KEEP = 0.25  # share of the rows of a step that keep all they have


class Dropout(Method):
    """Each training row shows a random non-empty part of what it has, so that every pattern is practised."""

    name = "dropout"

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        self.backbone = parts.backbone()
        self.head = Head(width=self.backbone.width, names=parts.names, codec=parts.codec, dropout=parts.dropout)

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        assert batch.target is not None
        shown = batch.restrict(random_subsets(batch.presence, KEEP, draw), self.parts.names)
        seen = self.backbone(shown)
        return self.head.losses(seen.together, seen.alone, shown.presence, batch.target)

    def answer(self, batch: Batch) -> Output:
        seen = self.backbone(batch)
        scores = self.head(seen.together, seen.alone, batch.presence)
        return Output(scores=scores, uncertainty=scores[:, 0], embeddings=seen.together)

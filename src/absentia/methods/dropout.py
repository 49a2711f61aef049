"""Modality dropout with presence-aware attention: absent tokens are not there, and training hides more of them."""

from __future__ import annotations

import torch
from torch import Tensor

from absentia.data.batch import Batch
from absentia.layers.subsets import random_subsets
from absentia.methods.base import Method, Output, Parts, Stage

__all__ = ["Dropout"]

KEEP = 0.25  # share of the rows of a step that keep all they have


class Dropout(Method):
    """Each training row shows a random non-empty part of what it has, so that every pattern is practised."""

    name = "dropout"
    dense = True

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        self.backbone = parts.backbone()
        self.head = parts.head(self.backbone)

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        shown = batch.restrict(random_subsets(batch.presence, KEEP, draw), self.parts.names)
        return self.head.taught(self.backbone, shown)

    def answer(self, batch: Batch) -> Output:
        scores, seen = self.head.read(self.backbone, batch)
        return Output(scores=scores, uncertainty=scores[:, 0], embeddings=seen)

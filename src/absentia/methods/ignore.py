"""Ignore the problem: absent inputs are filled with placeholders, as people do today. The reference of every report."""

from __future__ import annotations

import torch
from torch import Tensor

from absentia.data.batch import Batch
from absentia.layers.heads import Head
from absentia.methods.base import Method, Output, Parts, Stage

__all__ = ["Ignore"]


class Ignore(Method):
    """A black image, an empty text, mean values, silence: attended to as if they were there, one linear head on top."""

    name = "ignore"
    feeds_placeholders = True

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        self.backbone = parts.backbone()
        self.head = Head(
            width=self.backbone.width, names=parts.names, codec=parts.codec, dropout=parts.dropout, votes=False
        )

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        assert batch.target is not None
        filled = batch.filled(self.parts.blanks)
        seen = self.backbone(filled)
        return self.head.losses(seen.together, seen.alone, filled.presence, batch.target)

    def answer(self, batch: Batch) -> Output:
        filled = batch.filled(self.parts.blanks)
        seen = self.backbone(filled)
        scores = self.head(seen.together, seen.alone, filled.presence)
        return Output(scores=scores, uncertainty=scores[:, 0], embeddings=seen.together)

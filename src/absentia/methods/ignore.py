"""Ignore the problem: absent inputs are filled with placeholders, as people do today. The reference of every report."""

from __future__ import annotations

import torch
from torch import Tensor

from absentia.data.batch import Batch
from absentia.methods.base import Method, Output, Parts, Stage

__all__ = ["Ignore"]


class Ignore(Method):
    """A black image, an empty text, mean values, silence: attended to as if they were there, one linear head on top."""

    name = "ignore"
    feeds_placeholders = True
    dense = True

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        self.backbone = parts.backbone()
        self.head = parts.head(self.backbone, votes=False)

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        return self.head.taught(self.backbone, batch.filled(self.parts.blanks))

    def answer(self, batch: Batch) -> Output:
        scores, seen = self.head.read(self.backbone, batch.filled(self.parts.blanks))
        return Output(scores=scores, uncertainty=scores[:, 0], embeddings=seen)

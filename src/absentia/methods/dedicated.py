"""One model per pattern: the costly reference, as many trainings as there are patterns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from absentia.data.batch import Batch
from absentia.data.schema import pattern_name
from absentia.methods.base import Bools, Method, Output, Parts, Stage

__all__ = ["Dedicated"]


class Dedicated(Method):
    """The model of a pattern learns from every training row that has at least that pattern, and sees only it.

    A pattern that no training row can show has no model; its rows go to the largest trained part of it, or get the
    prior where there is none.
    """

    name = "dedicated"
    dense = True

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        backbones = [parts.backbone(i) for i in range(len(parts.seen))]
        self.backbones = nn.ModuleList(backbones)
        self.heads = nn.ModuleList(map(parts.head, backbones))
        self.register_buffer("patterns", torch.from_numpy(parts.seen))
        self.patterns: Tensor

    def stages(self) -> Sequence[Stage]:
        return [self._stage(i, pattern) for i, pattern in enumerate(self.parts.seen)]

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        assert stage.patterns is not None
        number = self._number(stage.patterns[0])
        head: Any = self.heads[number]
        taught: dict[str, Tensor] = head.taught(
            self.backbones[number], batch.restrict(self.patterns[number], self.parts.names)
        )
        return taught

    def answer(self, batch: Batch) -> Output:
        chosen = self._chosen(batch.presence)
        scores = self.prior_of(batch)
        for number in torch.unique(chosen).tolist():
            rows = chosen == number
            part = self._run(batch.select(rows, self.parts.names), number)
            scores = scores.to(part.scores.dtype).index_put((rows,), part.scores)
        return Output(scores=scores, uncertainty=scores[:, 0])

    def answerable(self, presence: Tensor) -> Tensor:
        return self._chosen(presence) >= 0

    def _stage(self, number: int, pattern: Bools) -> Stage:
        return Stage(
            name=pattern_name(self.parts.names, pattern.tolist()),
            wants=partial(_has_all, pattern=pattern),
            patterns=pattern[None],
            learns=partial(self._parameters_of, number),
        )

    def _parameters_of(self, number: int) -> Iterator[nn.Parameter]:
        yield from self.backbones[number].parameters()
        yield from self.heads[number].parameters()

    def _number(self, pattern: Bools) -> int:
        return int((self.parts.seen == pattern).all(axis=1).argmax())

    def _run(self, batch: Batch, number: int) -> Output:
        head: Any = self.heads[number]
        shown = batch.restrict(self.patterns[number], self.parts.names)
        scores, seen = head.read(self.backbones[number], shown)
        return Output(scores=scores, uncertainty=scores[:, 0], embeddings=seen)

    def _chosen(self, presence: Tensor) -> Tensor:
        """(B,): the model of each row's pattern, else of its largest trained part, else -1."""
        inside = (presence[:, None] | ~self.patterns[None]).all(dim=2)  # (B, P)
        size = self.patterns.sum(dim=1)
        best = torch.where(inside, size, -1).max(dim=1)
        return torch.where(best.values > 0, best.indices, -1)


def _has_all(presence: Bools, pattern: Bools) -> Bools:
    return np.asarray((presence | ~pattern).all(axis=1))

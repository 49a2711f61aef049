"""Prototypes: no gradient at all, statistics of a frozen backbone's features that add up over sessions.

head "mean": nearest class mean by cosine. head "ridge": ridge regression on a random projection of the features
(RanPAC, McDonnell et al., NeurIPS 2023, arXiv 2307.02251, its eq. 4-6, without the adapter of the first session).
head "gaussian": Gaussian classes of one covariance on the same random features.
Sessions in any order, or all at once, give the same answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from absentia.data.batch import Batch
from absentia.data.target import TargetCodec
from absentia.errors import UserError
from absentia.layers.class_means import ClassMeans
from absentia.layers.gaussian import Gaussian
from absentia.layers.ridge import Ridge, columns_of, scores_of
from absentia.layers.subsets import weighted_parts
from absentia.methods.base import Batches, Output, Parts, Stage
from absentia.methods.continual import Reading
from absentia.methods.settings import at_least, between, one_of

__all__ = ["Prototypes"]

HEADS = ("mean", "ridge", "gaussian")
SHARPNESS = 5.0  # cosines to scores


@dataclass(frozen=True, kw_only=True)
class Options:
    """Args:
    head: ridge (ridge regression on random features), gaussian (Gaussian classes of one covariance on these; not for a
        number) or mean (nearest class mean; not for a number).
    patterns: whether each row also counts with every part of what it has, so that absent modalities are served.
    projected: random features of ridge and gaussian; 0 takes the backbone's as they are.
    penalty: of the ridge, in mean eigenvalues of the Gram matrix; none chooses it by generalised cross-validation.
    """

    head: Literal["mean", "ridge", "gaussian"] = "ridge"
    patterns: bool = True
    projected: int = 1000
    penalty: float | None = None

    def __post_init__(self) -> None:
        one_of("head", self.head, HEADS)
        at_least("projected", self.projected, 0)
        if self.penalty is not None:
            between("penalty", self.penalty, 0, 1e12)


class Prototypes(Reading):
    """Means, or a Gram matrix, of what the frozen backbone makes of the training rows."""

    name = "prototypes"
    freezes = True
    Options = Options

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        width, outputs = self.backbone.width, parts.codec.target.size
        head, size, kind = self.options.head, self.options.projected, parts.codec.target.kind
        if head != "ridge" and kind == "number":
            raise UserError(f"options.head {head}: a number has no classes; say ridge")
        self.head: Ridge | ClassMeans | Gaussian
        if head == "mean":
            self.head = ClassMeans(width=width, outputs=outputs)
        elif head == "gaussian":
            self.head = Gaussian(width=width, outputs=outputs, size=size, labels=kind == "labels")
        else:
            self.head = Ridge(width=width, outputs=outputs, size=size, penalty=self.options.penalty)

    def stages(self) -> Sequence[Stage]:
        return []

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        raise NotImplementedError("there are no stages, and nothing to minimise")

    def open_session(self, codec: TargetCodec, taught: Sequence[str] | None = None) -> None:
        super().open_session(codec, taught)
        self.head.grow(codec.target.size)

    @torch.no_grad()
    def close_session(self, batches: Batches) -> None:
        """Add the session's rows to the statistics."""
        for batch in batches():
            assert batch.target is not None
            columns = columns_of(batch.target, self.parts.codec)
            for features, rows, weight in self._shown(batch):
                self.head.add(features, columns[rows], weight)
        if not isinstance(self.head, ClassMeans):
            self.head.solve()

    def answer(self, batch: Batch) -> Output:
        scores = self._scores(batch) if self.head.count > 0 else self.prior.repeat(len(batch), 1)
        return Output(scores=scores, uncertainty=scores[:, 0])

    def _scores(self, batch: Batch) -> Tensor:
        """(B, K)"""
        features = self.features(batch)
        said: Tensor = self.head(features)
        if isinstance(self.head, Ridge):
            return scores_of(said, self.parts.codec)
        if isinstance(self.head, Gaussian):
            return said
        if self.parts.codec.target.kind == "labels":
            said = said - self.head.against(features)
        return SHARPNESS * said

    def _shown(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Features (n, D) of some rows, bool (B,), as they are or as a part of that, and their weights (n,)."""
        if not self.options.patterns:
            every = torch.ones_like(batch.index, dtype=torch.bool)
            yield self.features(batch), every, every.float()
            return
        for shown, weight in weighted_parts(batch.presence):
            rows = weight > 0
            if rows.any():
                part = batch.restrict(shown, self.parts.names).select(rows, self.parts.names)
                yield self.read(part), rows, weight[rows]

"""Pretraining by the first stage of the universal model: what is left is a backbone like any other.

Where the target is a mask it is a dense network, else a fused transformer. Masks themselves are not needed for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from absentia.data.batch import Batch
from absentia.layers.distribution import LOOKS
from absentia.layers.masking import DROPS, Drop
from absentia.layers.template import FILLS, Fill
from absentia.methods.base import Method, Output, Parts, Stage
from absentia.methods.settings import at_least, between, one_of
from absentia.methods.universal_dense import Dense
from absentia.models.backbone import FusedBackbone
from absentia.models.dense import DenseBackbone
from absentia.models.dense_imagination import DenseImagination
from absentia.models.imagination import Imagination, Masks

__all__ = ["Imagining"]

RATIO, WHOLE = Masks.ratio, Masks.whole  # of tokens
DENSE_WHOLE = 0.5  # as the first stage of the universal model has it


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is hidden, and how what is truly absent is learned.

    Args:
        ratio: share of the tokens or patches of what is shown that is hidden; none takes 0.5 of tokens and 0.75 of
            patches.
        whole: share of the rows that lose modalities alone and show the others whole; none takes 0 of tokens and 0.5 of
            voxels.
        patch: voxels along each side of a patch.
        template: learned fill of voxels: scalar, low (coarse) or full (each voxel, as in M3AE).
        drop: how modalities are dropped on purpose: uniform_size or bernoulli.
        rate: of bernoulli.
        distribution: how reconstructions of what is truly absent are compared with what others have: moments, sliced,
            adversarial or none.
        joint: whether they are also compared in pairs with an available modality (of 8 modalities or fewer).
        approximate: weight of that comparison.
    """

    ratio: float | None = None
    whole: float | None = None
    patch: int = 8
    template: Fill = "low"
    drop: Drop = "uniform_size"
    rate: float = 0.5
    distribution: Literal["moments", "sliced", "adversarial", "none"] = "moments"
    joint: bool = True
    approximate: float = 0.1

    def __post_init__(self) -> None:
        one_of("drop", self.drop, DROPS)
        one_of("template", self.template, FILLS)
        one_of("distribution", self.distribution, [*LOOKS, "none"])
        for name, most in (("ratio", 1.0), ("whole", 1.0), ("rate", 1.0), ("approximate", 1e6)):
            between(name, getattr(self, name) or 0.0, 0, most)
        at_least("patch", self.patch, 1)

    def masks(self, *, dense: bool) -> Masks:
        """What a row does not show, of voxels or of tokens."""
        ratio, whole = (Dense.ratio, DENSE_WHOLE) if dense else (RATIO, WHOLE)
        return Masks(
            ratio=ratio if self.ratio is None else self.ratio,
            whole=whole if self.whole is None else self.whole,
            drop=self.drop,
            rate=self.rate,
        )


class Imagining(Method):
    """A backbone that learns to imagine what is absent."""

    name = "universal"
    dense = True
    Options = Options

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        asked: Options = self.options
        look = None if asked.distribution == "none" else asked.distribution
        self.imagination: Imagination | DenseImagination
        if parts.codec.target.kind != "mask":
            self.imagination = Imagination(backbone=parts.backbone(), names=parts.names, look=look, joint=asked.joint)
            return
        self.imagination = DenseImagination(
            backbone=parts.backbone(),
            names=parts.names,
            space=next(iter(parts.blanks.values()))["voxels"].shape[2:],
            fill=asked.template,
            look=look,
            joint=asked.joint,
        )

    @property
    def backbone(self) -> FusedBackbone | DenseBackbone:
        """What is kept."""
        return self.imagination.backbone

    def beside(self) -> dict[str, Tensor]:
        """What is kept beside it: of a dense network what its first stage can go on with."""
        return self.imagination.beside() if isinstance(self.imagination, DenseImagination) else {}

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        asked: Options = self.options
        if isinstance(self.imagination, DenseImagination):
            terms = self.imagination.losses(batch, asked.masks(dense=True), asked.patch, draw)
        else:
            terms = self.imagination.losses(batch, asked.masks(dense=False), draw)
        if "distribution" in terms:
            terms["distribution"] = asked.approximate * terms["distribution"]
        return terms

    def answer(self, batch: Batch) -> Output:
        """Nothing but the prior; what was learned is the backbone."""
        scores = self.prior_of(batch)
        return Output(scores=scores, uncertainty=scores.new_ones(len(batch)))

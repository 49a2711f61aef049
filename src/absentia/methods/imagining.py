"""Pretraining by the first stage of the universal model: what is left is a backbone like any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from absentia.data.batch import Batch
from absentia.layers.distribution import LOOKS
from absentia.layers.masking import DROPS, Drop
from absentia.methods.base import Method, Output, Parts, Stage
from absentia.methods.settings import between, one_of
from absentia.models.backbone import FusedBackbone
from absentia.models.imagination import Imagination, Masks

__all__ = ["Imagining"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is hidden, and how what is truly absent is learned.

    Args:
        ratio: share of the tokens of what is shown that is hidden.
        drop: how modalities are dropped on purpose: uniform_size or bernoulli.
        rate: of bernoulli.
        distribution: how reconstructions of what is truly absent are compared with what others have: moments, sliced,
            adversarial or none.
        joint: whether they are also compared in pairs with an available modality (of 8 modalities or fewer).
        approximate: weight of that comparison.
    """

    ratio: float = 0.5
    drop: Drop = "uniform_size"
    rate: float = 0.5
    distribution: Literal["moments", "sliced", "adversarial", "none"] = "moments"
    joint: bool = True
    approximate: float = 0.1

    def __post_init__(self) -> None:
        one_of("drop", self.drop, DROPS)
        one_of("distribution", self.distribution, [*LOOKS, "none"])
        for name, most in (("ratio", 1.0), ("rate", 1.0), ("approximate", 1e6)):
            between(name, getattr(self, name), 0, most)


class Imagining(Method):
    """A backbone that learns to imagine what is absent."""

    name = "universal"
    Options = Options

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        look = None if self.options.distribution == "none" else self.options.distribution
        joint = self.options.joint
        self.imagination = Imagination(backbone=parts.backbone(), names=parts.names, look=look, joint=joint)

    @property
    def backbone(self) -> FusedBackbone:
        """What is kept."""
        return self.imagination.backbone

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        asked = self.options
        terms = self.imagination.losses(batch, Masks(ratio=asked.ratio, drop=asked.drop, rate=asked.rate), draw)
        if "distribution" in terms:
            terms["distribution"] = asked.approximate * terms["distribution"]
        return terms

    def answer(self, batch: Batch) -> Output:
        """Nothing but the prior; what was learned is the backbone."""
        scores = self.prior.repeat(len(batch), 1)
        return Output(scores=scores, uncertainty=scores[:, 0])

"""L2P: each row picks prompts from a pool that all sessions share, by how near their keys are to its query.

Wang et al., CVPR 2022 (arXiv 2112.08654), eq. 3-5. The prompts join the input tokens. Here each row has its own
prompts in training too (released code may let the majority of a batch decide), and the read-out is that of all
baselines instead of the mean over prompt tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from absentia.data.batch import Batch
from absentia.errors import UserError
from absentia.methods.prompting import AwareOptions, Prompting, cosines
from absentia.methods.settings import at_least, between
from absentia.models.fused import Prompts

__all__ = ["L2P"]

STD = 0.02


@dataclass(frozen=True, kw_only=True)
class Options(AwareOptions):
    """As `AwareOptions`, and

    Args:
        pool: prompts.
        top: how many of them a row picks.
        length: tokens of a prompt.
        pull: how strongly the keys of picked prompts are drawn to the queries, λ.
    """

    pool: int = 10
    top: int = 5
    length: int = 5
    pull: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("top", "length"):
            at_least(name, getattr(self, name), 1)
        between("pull", self.pull, 0, 1e6)
        if self.pool < self.top:
            raise UserError(f"options.pool {self.pool}: a row picks {self.top} prompts (options.top), so have as many")


class L2P(Prompting):
    """A pool of prompts with keys."""

    name = "l2p"
    aware_at = "attention"
    Options = Options

    def make_prompts(self) -> None:
        width = self.backbone.width
        self.keys = nn.Parameter(torch.randn(self.options.pool, width) / width**0.5)
        self.pool = nn.Parameter(STD * torch.randn(self.options.pool, self.options.length, width))

    def prompted(self, batch: Batch, *, learning: bool) -> tuple[Prompts, dict[str, Tensor]]:
        near, chosen = cosines(self.features(batch), self.keys).topk(self.options.top, dim=1)
        inserted = self.pool[chosen].flatten(1, 2)[None]  # (1, B, top * length, D)
        return Prompts(inserted=inserted), {"pull": self.options.pull * (1 - near).sum(dim=1).mean()}

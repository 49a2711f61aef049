"""A linear classifier that grows by a block of classes per session, and the loss among a session's own classes."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from absentia.data.target import TargetCodec
from absentia.layers.heads import prior_scores, task_loss
from absentia.layers.settled import settle

__all__ = ["Classifier", "session_loss"]

HIDDEN = -100.0  # score of a class that is not this session's (RebQ and CODA-Prompt, released code)


class Classifier(nn.Module):
    """Features (B, D) to scores (B, K), one linear block for the classes that each session brought.

    settles: whether a block stops learning when the next one arrives. A block starts at its classes' prior; classes
    that exclude each other at their shares beside one another, so that no block has a start on the others.
    """

    def __init__(self, *, width: int, codec: TargetCodec, settles: bool = True) -> None:
        super().__init__()
        self.width, self.settles = width, settles
        self.blocks = nn.ModuleList([_block(width, _start(codec, 0))])

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([block(features) for block in self.blocks], dim=1)

    @property
    def size(self) -> int:
        """K."""
        return sum(cast(nn.Linear, block).out_features for block in self.blocks)

    def grow(self, codec: TargetCodec) -> None:
        """Make room for the classes that `codec` has more; without any, nothing changes and everything learns on."""
        fresh = _start(codec, self.size)
        if not len(fresh):
            return
        if self.settles:
            settle(self.blocks)
        like = next(iter(self.blocks[0].state_dict().values()))
        self.blocks.append(_block(self.width, fresh).to(like))


def _start(codec: TargetCodec, known: int) -> Tensor:
    """(k,): where the scores of the classes behind the first `known` start."""
    prior = prior_scores(codec)[known:]
    return prior - prior.mean() if codec.target.kind == "class" and len(prior) else prior


def _block(width: int, prior: Tensor) -> nn.Linear:
    block = nn.Linear(width, len(prior))
    nn.init.zeros_(block.weight)
    with torch.no_grad():
        block.bias.copy_(prior)
    return block


def session_loss(scores: Tensor, target: Tensor, codec: TargetCodec, taught: Tensor) -> Tensor:
    """The task's loss of scores (B, K) among the classes that are taught, bool (K,); the others count as -100."""
    return task_loss(scores.masked_fill(~taught, HIDDEN), target, codec)

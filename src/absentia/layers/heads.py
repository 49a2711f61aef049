"""From representations to scores, from scores to losses, probabilities and uncertainty, for every kind of target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.data.batch import Batch
from absentia.data.target import TargetCodec
from absentia.layers.dense_losses import DENSE_LOSSES
from absentia.layers.naming import module_key

__all__ = ["Head", "prior_scores", "probabilities", "row_losses", "task_loss", "uncertainty_of"]

SEPARATE = ("labels", "mask")  # kinds of target whose scores each stand for themselves
SMALLEST = 1e-4  # share given to a class that training rows did not show


class Head(nn.Module):
    """Representations to scores (B, K), starting at the prior.

    A row's score is what its modalities say together plus a vote of each alone. Evidence adds up, as log-probabilities
    of independent witnesses do; a modality that is absent adds nothing. The votes learn quickly where rows are few.
    Without `votes` it is a linear reading of what they say together, and nothing else.
    """

    def __init__(
        self, *, width: int, names: Sequence[str], codec: TargetCodec, dropout: float = 0.0, votes: bool = True
    ) -> None:
        super().__init__()
        self.names, self.width, self.codec = list(names), width, codec
        self.dropout = nn.Dropout(dropout)
        self.together = nn.Linear(width, codec.target.size)
        keys = [module_key(name) for name in self.names] if votes else []
        self.norms = nn.ModuleDict({key: nn.LayerNorm(width) for key in keys})
        self.votes = nn.ModuleDict({key: _no_vote(width, codec) for key in keys})
        nn.init.zeros_(self.together.weight)
        with torch.no_grad():
            self.together.bias.copy_(prior_scores(codec))

    def forward(self, together: Mapping[str, Tensor], alone: Mapping[str, Tensor], presence: Tensor) -> Tensor:
        """Per modality (n_m, D) of its present rows, and presence (B, M), to scores (B, K)."""
        return self.scored(self._fused(together, presence), alone, presence)

    def scored(self, fused: Tensor, alone: Mapping[str, Tensor], presence: Tensor) -> Tensor:
        """The same of rows that were fused already, (B, D)."""
        return self._sum(fused, self._votes(alone), presence)

    def losses(
        self, together: Mapping[str, Tensor], alone: Mapping[str, Tensor], presence: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """The task's loss, and the mean loss of each present modality's vote by itself.

        The second term keeps a modality that is easy to learn from silencing the others.
        """
        votes = self._votes(alone)
        task = task_loss(self._sum(self._fused(together, presence), votes, presence), target, self.codec)
        return {"task": task} | self.alone_loss(alone, presence, target, votes)

    def alone_loss(
        self,
        alone: Mapping[str, Tensor],
        presence: Tensor,
        target: Tensor,
        votes: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The mean loss of each present modality's vote by itself; nothing where there are no votes."""
        votes = self._votes(alone) if votes is None else votes
        if not votes:
            return {}
        own = [target[presence[:, m]] for m, name in enumerate(self.names) if name in votes]
        said = torch.cat(list(votes.values())) + self.together.bias
        return {"alone": task_loss(said, torch.cat(own), self.codec)}

    def taught(self, backbone: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch, through a fused backbone."""
        assert batch.target is not None
        seen = backbone(batch)
        return self.losses(seen.together, seen.alone, batch.presence, batch.target)

    def read(self, backbone: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores (B, K) of a batch, through a fused backbone, and what its modalities say together."""
        seen = backbone(batch)
        return self(seen.together, seen.alone, batch.presence), seen.together

    def _votes(self, alone: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Per present modality, in order, scores (n_m, K) that are added to what the row's modalities say together."""
        out = {}
        for name in self.names:
            key = module_key(name)
            if name in alone and key in self.votes:
                out[name] = self.votes[key](self.dropout(self.norms[key](alone[name])))
        return out

    def _fused(self, together: Mapping[str, Tensor], presence: Tensor) -> Tensor:
        like = next(iter(together.values()), self.together.weight)
        fused = like.new_zeros(len(presence), self.width)
        for m, name in enumerate(self.names):
            if name in together:
                fused = fused.index_add(0, presence[:, m].nonzero()[:, 0], together[name])
        return fused

    def _sum(self, fused: Tensor, votes: Mapping[str, Tensor], presence: Tensor) -> Tensor:
        total = fused.new_zeros(len(presence), self.together.out_features)
        for m, name in enumerate(self.names):
            if name in votes:
                total = total.index_add(0, presence[:, m].nonzero()[:, 0], votes[name].to(total.dtype))
        return cast(Tensor, self.together(self.dropout(fused)) + total)

    def grow(self, codec: TargetCodec) -> None:
        """More classes, behind those that are known; what was learned about these stays."""
        self.codec = codec
        self.together = _grown(self.together, codec, prior_scores(codec))
        self.votes = nn.ModuleDict({k: _grown(cast(nn.Linear, vote), codec, None) for k, vote in self.votes.items()})


def _no_vote(width: int, codec: TargetCodec) -> nn.Linear:
    vote = nn.Linear(width, codec.target.size, bias=False)
    nn.init.zeros_(vote.weight)
    return vote


def _grown(old: nn.Linear, codec: TargetCodec, bias: Tensor | None) -> nn.Linear:
    new = nn.Linear(old.in_features, codec.target.size, bias=bias is not None).to(old.weight)
    nn.init.zeros_(new.weight)
    with torch.no_grad():
        new.weight[: old.out_features] = old.weight
        if bias is not None:
            new.bias.copy_(bias)
            new.bias[: old.out_features] = old.bias
    return new


def prior_scores(codec: TargetCodec) -> Tensor:
    """Scores (K,) that give the prior: log shares, logits of label or voxel shares, or 0 for a standardised number."""
    prior = torch.tensor(codec.prior, dtype=torch.float32)
    if codec.target.kind == "class":
        return prior.clamp(min=SMALLEST).log()
    if codec.target.kind in SEPARATE:
        return prior.clamp(SMALLEST, 1 - SMALLEST).logit()
    return prior


def probabilities(scores: Tensor, codec: TargetCodec) -> Tensor:
    """Scores (B, K) as probabilities (B, K), those of a mask (B, K, *space); numbers stay as they are."""
    if codec.target.kind == "class":
        return scores.float().softmax(dim=1)
    return scores.float().sigmoid() if codec.target.kind in SEPARATE else scores.float()


def task_loss(scores: Tensor, target: Tensor, codec: TargetCodec) -> Tensor:
    """Mean cross-entropy, binary cross-entropy or Huber loss of scores (B, K), or a mask's loss of (B, K, *space)."""
    if codec.target.kind == "mask":
        return row_losses(scores, target, codec).mean()
    if codec.target.kind == "class":
        return F.cross_entropy(scores, target)
    if codec.target.kind == "labels":
        return F.binary_cross_entropy_with_logits(scores, target)
    return F.smooth_l1_loss(scores[:, 0], target)


def row_losses(scores: Tensor, target: Tensor, codec: TargetCodec) -> Tensor:
    """(B,): what `task_loss` is the mean of."""
    if codec.target.kind == "mask":
        return DENSE_LOSSES[codec.target.masks.loss](scores, target)
    if codec.target.kind == "class":
        return F.cross_entropy(scores, target, reduction="none")
    if codec.target.kind == "labels":
        return F.binary_cross_entropy_with_logits(scores, target, reduction="none").mean(dim=1)
    return F.smooth_l1_loss(scores[:, 0], target, reduction="none")


def uncertainty_of(scores: Tensor, codec: TargetCodec) -> Tensor:
    """(B,) from 0 to 1: entropy beside that of the prior; a number's is 0 wherever anything was seen.

    That of a mask is the mean over its voxels.
    """
    if codec.target.kind == "number":
        return scores.new_zeros(len(scores))
    if scores.dim() > 2:
        scores = scores.flatten(2)
        most = _binary(prior_scores(codec).to(scores.device).sigmoid()).sum().clamp(min=1e-12)
        return (_binary(scores.float().sigmoid()).sum(dim=1).mean(dim=1) / most).clamp(0, 1)
    prior = prior_scores(codec).to(scores.device)[None]
    most = _entropy(prior, codec).clamp(min=1e-12)
    return (_entropy(scores.float(), codec) / most).clamp(0, 1)


def _entropy(scores: Tensor, codec: TargetCodec) -> Tensor:
    p = probabilities(scores, codec)
    if codec.target.kind == "class":
        return -(p * p.clamp(min=1e-12).log()).sum(dim=1) / math.log(2)
    return _binary(p).sum(dim=1)


def _binary(p: Tensor) -> Tensor:
    """The entropy of each probability, in bits."""
    both = torch.stack([p, 1 - p])
    return -(both * both.clamp(min=1e-12).log()).sum(dim=0) / math.log(2)

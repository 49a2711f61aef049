"""From the features of a dense network to scores of every voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from absentia.data.batch import Batch
from absentia.data.target import TargetCodec
from absentia.layers.heads import prior_scores, task_loss
from absentia.models.dense import DenseBackbone, aligned

__all__ = ["DenseHead"]


class DenseHead(nn.Module):
    """A convolution of one voxel, features (B, width, *space) to scores (B, K, *space).

    Its bias starts at the prior, its weights do not start at 0: from there a rare region takes hundreds of steps to
    be answered at all.
    """

    def __init__(self, *, backbone: DenseBackbone, names: Sequence[str], codec: TargetCodec) -> None:
        super().__init__()
        self.names, self.codec = list(names), codec
        kind = nn.Conv3d if backbone.dims == 3 else nn.Conv2d
        self.scores = kind(backbone.width, codec.target.size, 1)
        with torch.no_grad():
            cast(Tensor, self.scores.bias).copy_(prior_scores(codec))

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, *space) to (B, K, *space)."""
        return cast(Tensor, self.scores(features))

    def taught(self, backbone: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch, through a dense backbone."""
        assert batch.target is not None
        return {"task": task_loss(self.read(backbone, batch)[0], batch.target, self.codec)}

    def read(self, backbone: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores (B, K, *space) of a batch, through a dense backbone; it has no embeddings by modality."""
        assert isinstance(backbone, DenseBackbone)
        x, there = aligned(batch, self.names, self.scores.weight, backbone.channels)
        return self(backbone(x, there=there)[1]), {}

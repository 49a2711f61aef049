"""What a dense network is shown where there is nothing: a learned fill, by modality.

M3AE (Liu et al., AAAI 2023) learns a whole volume of each modality, cut out at the place of the crop; a number of each
modality or a coarse volume say most of it with far fewer parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FILLS", "Fill", "Template"]

Fill = Literal["scalar", "low", "full"]
FILLS: tuple[str, ...] = get_args(Fill)
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Template(nn.Module):
    """A learned picture of every channel.

    channels: M C of all modalities together.  space: of a whole picture, two axes or three.
    kind: scalar (one number of each channel), low (a picture of `coarse` points along each axis, drawn larger) or
    full (every voxel, begins as M3AE's does, at normal(0, 1)).
    """

    def __init__(self, *, channels: int, space: Sequence[int], kind: Fill = "low", coarse: int = 8) -> None:
        super().__init__()
        self.space, self.kind = tuple(space), kind
        points = {"scalar": [1] * len(space), "low": [min(coarse, n) for n in space], "full": list(space)}[kind]
        start = torch.randn(channels, *points) if kind == "full" else torch.zeros(channels, *points)
        self.image = nn.Parameter(start)

    def forward(self, size: Sequence[int] | None = None, corner: Tensor | None = None) -> Tensor:
        """(1, channels, *size), or at `corner` long (B, axes), the first voxel of a crop, (B, channels, *size).

        Beyond the picture its edge goes on.
        """
        size = tuple(size or self.space)
        if self.kind == "scalar":
            return self.image.expand(len(self.image), *size)[None]
        if corner is None and size == self.space:
            return self._whole()[None]
        corner = torch.zeros(1, len(size), dtype=torch.long) if corner is None else corner
        return self._cut(corner.to(self.image.device), size)

    def roughness(self) -> Tensor:
        """How far the picture is from being flat: the norm of its difference from the mean over space (M3AE)."""
        flat = self.image.flatten(1)
        away = (flat - flat.mean(dim=1, keepdim=True)).flatten()
        return (away.square().sum() + 1e-12).sqrt()

    def _whole(self) -> Tensor:
        if self.kind == "full":
            return self.image
        mode = LINEAR[len(self.space)]
        return F.interpolate(self.image[None], size=self.space, mode=mode, align_corners=True)[0]

    def _cut(self, corner: Tensor, size: Sequence[int]) -> Tensor:
        """All crops at once: each axis has its own index (B, n), shaped so that together they span the crop."""
        places: list[slice | Tensor] = [slice(None)]
        for axis, length in enumerate(size):
            along = (corner[:, axis, None] + torch.arange(length, device=corner.device)).clamp(0, self.space[axis] - 1)
            places.append(along.view(len(corner), *[length if a == axis else 1 for a in range(len(size))]))
        return self._whole()[tuple(places)].transpose(0, 1)

"""A dense network in which contrasts meet late: each has an encoder of its own, and tokens of those that are there.

After mmFormer (Zhang et al., MICCAI 2022): encoders by contrast, a transformer over the tokens of all bottlenecks, one
decoder. There an absent contrast is features of zeros, which norms and attention go on to read; here it is nowhere: no
encoder runs for it, the transformer has no token of it, and what the decoder is given is a mean over what is there.
Without mmFormer's transformers within a contrast and its extra decoders. What stands in for an absent contrast counts
as there only where it was made of the row itself, as reconstructions are; a learned template is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.models.encoders.base import learned_vector
from absentia.models.fused import FusedTransformer, Segment

__all__ = ["FusionUNet"]

SLOPE = 0.2  # of the leaky rectifiers, as mmFormer's


class FusionUNet(nn.Module):
    """Contrasts (B, sum of channels, *space) and which are there, bool (B, M), to (B, 1, *space).

    channels: of each contrast.  dims: 2 or 3.  features: of each scale, each half as large as the one before; sides
    must be multiples of 2 ^ (scales - 1).  depth, heads, mlp: of the transformer over tokens of width features[-1].
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        dims: int,
        features: Sequence[int] = (8, 16, 32, 64, 128),
        depth: int = 2,
        heads: int = 4,
        mlp: int = 2,
    ) -> None:
        super().__init__()
        if len(features) < 2:
            raise ValueError("features must have two scales or more")
        self.channels, self.dims, width = list(channels), dims, features[-1]
        self.encoders = nn.ModuleList(_Encoder(c, features, dims) for c in channels)
        self.merges = nn.ModuleList(nn.ModuleList(_conv(dims)(f, f, 1) for f in features) for _ in channels)
        self.starts = nn.ParameterList(learned_vector(width) for _ in channels)
        self.kinds = nn.ParameterList(learned_vector(width) for _ in channels)
        self.transformer = FusedTransformer(width=width, depth=depth, heads=heads, mlp=mlp * width)
        self.fused = _conv(dims)(width, width, 1)
        self.decoders = nn.ModuleList(_Decoder(low, high, dims) for high, low in reversed(list(pairwise(features))))
        self.last = _conv(dims)(features[0], 1, 1)

    def forward(self, x: Tensor, there: Tensor | None = None) -> Tensor:
        """there: all of them by default. What lies in place of others is not read; a row without any reads all."""
        there = torch.ones(len(x), len(self.channels), dtype=torch.bool, device=x.device) if there is None else there
        there = there | ~there.any(dim=1, keepdim=True)
        found = list(self._encoded(x, there))
        merged = self._merged(found, there)
        y = self.fused(merged[-1] + self._met(found, there))
        for decoder, skip in zip(self.decoders, reversed(merged[:-1]), strict=True):
            y = decoder(y, skip)
        return cast(Tensor, self.last(y))

    def _encoded(self, x: Tensor, there: Tensor) -> Iterator[tuple[int, Tensor, list[Tensor]]]:
        """Each contrast that any row has: its number, these rows (n,), and their features at every scale."""
        for m, part in enumerate(torch.split(x, self.channels, dim=1)):
            rows = there[:, m].nonzero()[:, 0]
            if len(rows):
                yield m, rows, self.encoders[m](part[rows])

    def _merged(self, found: Sequence[tuple[int, Tensor, list[Tensor]]], there: Tensor) -> list[Tensor]:
        """Per scale (B, C, *space): the mean over the contrasts of a row, each through a map of its own."""
        out: list[Tensor] = []
        for scale, like in enumerate(found[0][2]):
            total = like.new_zeros(len(there), *like.shape[1:])
            for m, rows, features in found:
                merge = cast(nn.ModuleList, self.merges[m])[scale]
                total = total.index_add(0, rows, merge(features[scale]).to(total.dtype))
            out.append(total / self._count(there, total))
        return out

    def _met(self, found: Sequence[tuple[int, Tensor, list[Tensor]]], there: Tensor) -> Tensor:
        """(B, D, *low): the mean over the contrasts of a row of what became of their tokens."""
        low = found[0][2][-1].shape[2:]
        position = _positions(low, self.transformer.width, found[0][2][-1])
        segments = [self._segment(m, rows, features[-1], position) for m, rows, features in found]
        output = self.transformer(segments, len(there))
        total: Tensor = output.packed.new_zeros(len(there), *position.shape)
        for number, (_, rows, _) in enumerate(found):
            total = total.index_add(0, rows, output.tokens(number)[:, 1:])
        grid: Tensor = total.transpose(1, 2).reshape(len(there), -1, *low)
        return grid / self._count(there, grid)

    def _segment(self, m: int, rows: Tensor, features: Tensor, position: Tensor) -> Segment:
        """The tokens of a contrast (n, 1 + N, D) behind one that starts them."""
        tokens = features.flatten(2).transpose(1, 2) + position
        start = cast(Tensor, self.starts[m]).to(tokens).expand(len(rows), 1, -1)
        tokens = torch.cat([start, tokens], dim=1) + cast(Tensor, self.kinds[m]).to(tokens)
        return Segment(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device), rows)

    def _count(self, there: Tensor, like: Tensor) -> Tensor:
        """How many contrasts each row has, in the shape of (B, 1, ...)."""
        return there.sum(dim=1).to(like.dtype).view(-1, *[1] * (like.dim() - 1))


class _Encoder(nn.Module):
    """Features of one contrast at every scale."""

    def __init__(self, channels: int, features: Sequence[int], dims: int) -> None:
        super().__init__()
        pairs = pairwise((channels, *features))
        self.scales = nn.ModuleList(
            nn.Sequential(_Step(a, b, dims, stride=2 if i else 1), _Step(b, b, dims)) for i, (a, b) in enumerate(pairs)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        out = []
        for scale in self.scales:
            x = scale(x)
            out.append(x)
        return out


class _Decoder(nn.Module):
    """From one scale to the next larger one, with what was merged there."""

    def __init__(self, low: int, high: int, dims: int) -> None:
        super().__init__()
        self.narrow = _conv(dims)(low, high, 1)
        self.look = nn.Sequential(_Step(2 * high, high, dims), _Step(high, high, dims))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        larger = F.interpolate(self.narrow(x), size=skip.shape[2:], mode="nearest")
        return cast(Tensor, self.look(torch.cat([larger, skip], dim=1)))


class _Step(nn.Sequential):
    """A convolution, a norm of each row and channel alone, and a leaky rectifier."""

    def __init__(self, before: int, after: int, dims: int, *, stride: int = 1) -> None:
        norm = nn.InstanceNorm3d if dims == 3 else nn.InstanceNorm2d
        super().__init__(
            _conv(dims)(before, after, 3, stride=stride, padding=1), norm(after, affine=True), nn.LeakyReLU(SLOPE)
        )


def _conv(dims: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    return nn.Conv3d if dims == 3 else nn.Conv2d


def _positions(space: Sequence[int], width: int, like: Tensor) -> Tensor:
    """(N, D): where each token lies, as sines and cosines of its place along every axis."""
    per = max(1, width // (2 * len(space)))
    rates = 10_000 ** (-torch.arange(per, device=like.device) / per)
    parts = []
    for axis, side in enumerate(space):
        angles = torch.arange(side, device=like.device)[:, None] * rates
        shape = [side if a == axis else 1 for a in range(len(space))]
        waves = torch.cat([angles.sin(), angles.cos()], dim=1).view(*shape, -1)
        parts.append(waves.expand(*space, -1))
    found = torch.cat(parts, dim=-1).flatten(0, len(space) - 1)[:, :width]
    return F.pad(found, (0, width - found.shape[1])).to(like.dtype)

"""A hyper-network: part of a model's parameters are made for the scenario, which modalities a row has.

It begins at zero and is added to what is there, so that the model starts equal to the one that is the same for every
scenario. Which parts are made is a choice: scales and shifts of layers (film), a small 1x1 convolution beside the
features (residual), or weights of the last layer (head).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["HyperHead", "HyperNetwork", "HyperResidual", "affine", "film", "filmed"]


class HyperNetwork(nn.Module):
    """Codes (B, d), and beside them a summary (B, c) of what was seen, to numbers (B, size) of each part.

    sizes: of the parts.  context: c, 0 for none.
    """

    def __init__(self, *, code: int, context: int, hidden: int, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.code = _reader(code, hidden)
        self.context = _reader(context, hidden) if context else None
        wide = hidden * (2 if context else 1)
        self.parts = nn.ModuleDict({name: _zero(nn.Linear(wide, size)) for name, size in sizes.items()})

    def forward(self, code: Tensor, context: Tensor | None = None) -> dict[str, Tensor]:
        """Per part its numbers; `context` is needed if the network was built with one."""
        hidden = self.code(code)
        if self.context is not None:
            assert context is not None
            hidden = torch.cat([hidden, self.context(context)], dim=1)
        hidden = hidden / hidden.shape[1] ** 0.5  # numbers of the size of one weight, however wide the network
        return {name: part(hidden) for name, part in self.parts.items()}

    def grow(self, name: str, size: int) -> None:
        """More numbers of a part behind those that it has; they begin at zero."""
        old = cast(nn.Linear, self.parts[name])
        new = _zero(nn.Linear(old.in_features, size)).to(old.weight)
        with torch.no_grad():
            new.weight[: old.out_features], new.bias[: old.out_features] = old.weight, old.bias
        self.parts[name] = new


def film(x: Tensor, numbers: Tensor) -> Tensor:
    """(B, C, ...) scaled by 1 + γ and shifted by β, both in `numbers` (B, 2 C)."""
    scale, shift = numbers.view(len(x), 2, x.shape[1], *[1] * (x.dim() - 2)).unbind(1)
    return torch.addcmul(shift, x, 1 + scale)


def affine(x: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """(B, C, ...) to (B, O, ...) by each row's own matrix (B, O, C) and shift (B, O): one pass over the features."""
    return torch.baddbmm(shift[..., None], matrix, x.flatten(2)).view(len(x), matrix.shape[1], *x.shape[2:])


def filmed(matrix: Tensor, shift: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """What comes out of an `affine` scaled by 1 + γ and shifted by β, both in `numbers` (B, 2 O): another affine."""
    scale, more = numbers.view(len(numbers), 2, -1).unbind(1)
    return matrix * (1 + scale)[..., None], shift * (1 + scale) + more


class HyperResidual(nn.Module):
    """x + widen(made 1x1 convolution of narrow(x)), for features (B, C, ...) of any number of axes.

    Made for each row are c² weights and c shifts among c channels; what leads there and back is learned once.
    """

    def __init__(self, *, channels: int, narrow: int = 8) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Linear(channels, narrow, bias=False), nn.Linear(narrow, channels, bias=False)
        self.channels = narrow

    @property
    def size(self) -> int:
        """How many numbers are made for it."""
        return self.channels * (self.channels + 1)

    def forward(self, x: Tensor, numbers: Tensor) -> Tensor:
        own = numbers.view(len(x), self.channels, self.channels + 1)
        inner = torch.baddbmm(own[..., -1:], own[..., :-1], _through(self.narrow, x))
        return x + _through(self.widen, inner).view_as(x)

    def folded(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The same as one matrix (B, C, C) and shift (B, C) of an `affine`: cheaper where features have many voxels."""
        own, wide = numbers.view(len(numbers), self.channels, self.channels + 1), self.widen.weight
        matrix = wide @ own[..., :-1] @ self.narrow.weight
        return matrix + torch.eye(len(wide), device=wide.device, dtype=matrix.dtype), own[..., -1] @ wide.T


class HyperHead(nn.Module):
    """What is added to scores (B, K, ...): a made 1x1 convolution of narrow features (B, C, ...).

    The numbers of a class stand together, so that more classes are more numbers behind.
    """

    def __init__(self, *, channels: int, narrow: int = 8) -> None:
        super().__init__()
        self.narrow = nn.Linear(channels, narrow, bias=False)
        self.channels = narrow

    def size(self, outputs: int) -> int:
        """How many numbers are made for K outputs."""
        return outputs * (self.channels + 1)

    def forward(self, x: Tensor, numbers: Tensor) -> Tensor:
        own = numbers.view(len(x), -1, self.channels + 1)
        x, space = (x, x.shape[2:]) if x.dim() > 2 else (x[..., None], ())
        return affine(x, own[..., :-1] @ self.narrow.weight, own[..., -1]).view(*own.shape[:2], *space)


def _through(layer: nn.Linear, x: Tensor) -> Tensor:
    """(B, C, ...) to (B, c, N) by a 1x1 convolution without shifts; channels stay where they are."""
    return layer.weight @ (x.flatten(2) if x.dim() > 2 else x[..., None])


def _reader(size: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(size), nn.Linear(size, hidden), nn.ReLU(), nn.LayerNorm(hidden))


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer

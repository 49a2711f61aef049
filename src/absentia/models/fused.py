"""The fused backbone: a pre-LN transformer over the tokens of whatever modalities are present.

Absent modalities and padding do not exist inside: linear layers see (N, D) packed tokens, attention sees
rectangles of like-long samples. Attention does not know the order of its tokens, so neither does this model;
positions are the embedders' business. Every linear and norm is an ordinary module that is called as one, so
hooks, LoRA and bias tuning find it; who needs the sample of each packed token calls `pack` and `run` in turn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.layers.attention import Prompts, View, views
from absentia.layers.packing import Packing, Segment

__all__ = ["Block", "FusedOutput", "FusedTransformer", "Prompts", "Rows", "Segment"]

Rows = Literal["all", "cls"]


@dataclass(frozen=True)
class FusedOutput:
    """What became of the tokens: `packed` (N, D) after the final LayerNorm, in the order of `packing`.

    With `only_cls` there is one row for each [CLS] and nothing else.
    """

    packed: Tensor
    packing: Packing
    only_cls: bool

    def cls(self, segment: int) -> Tensor:
        """(n, D): the [CLS] outputs of that segment's rows."""
        places = self.packing.cls_places(segment)
        if self.only_cls:
            places = torch.searchsorted(self.packing.cls, places.contiguous())
        return self.packed.index_select(0, places)

    def tokens(self, segment: int) -> Tensor:
        """(n, T, D): all outputs of that segment's rows, zeros where there is padding."""
        if self.only_cls:
            raise ValueError('only the [CLS] were computed; run with rows="all" to read tokens')
        return self.packing.unpack(self.packed, segment)


class Block(nn.Module):
    """One pre-LN layer: x + attention(LN(x)), then x + MLP(LN(x))."""

    def __init__(self, *, width: int, mlp: int, eps: float, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, eps=eps)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width, eps=eps)
        self.widen = nn.Linear(width, mlp)
        self.narrow = nn.Linear(mlp, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, view: View, only: Tensor | None = None) -> Tensor:
        """(N, D) -> (N, D); with `only` (C,) just these are computed -> (C, D), still reading all others."""
        normed = self.norm_attention(x)
        key, value = self.key(normed), self.value(normed)
        if only is not None:
            x, normed = x.index_select(0, only), normed.index_select(0, only)
        x = x + self.dropout(self.out(view.attend(self.query(normed), key, value)))
        hidden = F.gelu(self.widen(self.norm_mlp(x)))
        return x + self.dropout(self.narrow(hidden))  # type: ignore[no-any-return]


class FusedTransformer(nn.Module):
    """Pre-LN transformer over the tokens that are there.

    width D, depth layers, heads per layer, mlp hidden units, eps of every LayerNorm, dropout on both residual
    branches. Weights start as truncated normals of 0.02 (those that write to the residual stream smaller with
    depth), biases as zeros. Raises ValueError if heads do not divide the width or there is no layer.
    """

    def __init__(
        self, *, width: int, depth: int, heads: int, mlp: int, eps: float = 1e-6, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if depth < 1 or width % heads:
            raise ValueError(f"depth {depth} must be positive and width {width} a multiple of {heads} heads")
        self.width = width
        self.heads = heads
        blocks = (Block(width=width, mlp=mlp, eps=eps, dropout=dropout) for _ in range(depth))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, eps=eps)
        self._initialise()

    def _initialise(self) -> None:
        branches = 2 * len(self.blocks)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                writes = name.endswith((".out", ".narrow"))
                nn.init.trunc_normal_(module.weight, std=0.02 / math.sqrt(branches) if writes else 0.02)
                nn.init.zeros_(module.bias)

    @property
    def sizes(self) -> dict[str, int]:
        """Width, depth, heads and hidden units."""
        first = self.blocks[0]
        assert isinstance(first, Block)
        return {
            "width": self.width,
            "depth": len(self.blocks),
            "heads": self.heads,
            "mlp": first.widen.out_features,
        }

    def forward(
        self,
        segments: Sequence[Segment],
        size: int,
        prompts: Prompts | None = None,
        rows: Rows = "all",
    ) -> FusedOutput:
        """Run the tokens of `size` samples through all layers.

        Samples without any token are legal; so are an empty batch and no segments at all. With
        rows="cls" the last layer is computed for the [CLS] only: exact, and all that a classifier reads.
        Raises ValueError for segments or prompts whose shapes do not fit.
        """
        return self.run(self.pack(segments, size, prompts), prompts, rows)

    def pack(self, segments: Sequence[Segment], size: int, prompts: Prompts | None = None) -> Packing:
        """Lay out a batch without running it: `packing.sample` then tells the sample of each packed token."""
        prompts = prompts or Prompts()
        prompts.check(depth=len(self.blocks), size=size, width=self.width)
        return Packing.of(segments, size, self.norm.weight.device, prompts.segment(segments, size))

    def run(self, packing: Packing, prompts: Prompts | None = None, rows: Rows = "all") -> FusedOutput:
        """Run a laid-out batch; `prompts` must be those it was laid out with."""
        prompts = prompts or Prompts()
        only_cls = rows == "cls"
        x = packing.pack(self.norm.weight)
        if len(x):
            layers = views(packing, prompts, heads=self.heads, depth=len(self.blocks))
            only: list[Tensor | None] = [None] * len(layers)
            if only_cls:
                layers[-1] = replace(layers[-1], queries=packing.cls_grids())
                only[-1] = packing.cls
            for layer, block in enumerate(self.blocks):
                x = block(prompts.replaced(packing, layer, x), layers[layer], only[layer])
        return FusedOutput(self.norm(x), packing, only_cls)

"""Attention over packed tokens, and the prompts that a method may put into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from absentia.layers.packing import Grid, Packing, Segment

__all__ = ["Prompts", "View", "views"]


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Learned vectors that a method puts into the first layers, for each sample its own.

    keys, values (L', B, P, D): prefixes of the first L' layers, seen by every token of their sample. They are
        cut into heads as they are, not projected. `visible` (B, P) bool hides some (None: all are seen).
    inserted (L', B, Q, D): input tokens. Those of layer 0 join the sequence of their sample, later layers
        replace what became of them, after the last they go on like any token. `inserts` (B,) bool: which
        samples get them (None: all). A sample without a token of its own gets none.
    """

    keys: Tensor | None = None
    values: Tensor | None = None
    visible: Tensor | None = None
    inserted: Tensor | None = None
    inserts: Tensor | None = None

    def check(self, *, depth: int, size: int, width: int) -> None:
        """Raise ValueError where the shapes do not fit a transformer and a batch."""
        if (self.keys is None) != (self.values is None):
            raise ValueError("prompts: keys and values come together")
        for name in ("keys", "values", "inserted"):
            vectors: Tensor | None = getattr(self, name)
            if vectors is None:
                continue
            layers, samples, _, channels = vectors.shape
            if not 1 <= layers <= depth or (samples, channels) != (size, width):
                expected = f"(1 to {depth}, {size}, any, {width})"
                raise ValueError(f"prompts: {name} {tuple(vectors.shape)}, expected {expected}")
        if self.keys is not None and self.values is not None and self.keys.shape != self.values.shape:
            raise ValueError(f"prompts: keys {tuple(self.keys.shape)}, values {tuple(self.values.shape)}")
        if self.visible is not None and (self.keys is None or self.visible.shape != self.keys.shape[1:3]):
            raise ValueError(f"prompts: visible {tuple(self.visible.shape)} does not fit the keys")
        if self.inserts is not None and (self.inserted is None or self.inserts.shape != (size,)):
            raise ValueError(f"prompts: inserts {tuple(self.inserts.shape)} does not fit what is inserted")

    def segment(self, segments: Sequence[Segment], size: int) -> Segment | None:
        """The inserted tokens of layer 0, for the samples that have a token of their own; or None."""
        if self.inserted is None:
            return None
        wanted = torch.zeros(size, dtype=torch.bool, device=self.inserted.device)
        for _, _, rows in segments:
            wanted[rows] = True
        if self.inserts is not None:
            wanted = wanted & self.inserts
        rows = wanted.nonzero()[:, 0]
        tokens = self.inserted[0, rows]
        return Segment(tokens, torch.ones_like(tokens[..., 0], dtype=torch.bool), rows)

    def replaced(self, packing: Packing, layer: int, x: Tensor) -> Tensor:
        """(N, D) -> (N, D): the packed tokens before a layer, the inserted ones replaced by that layer's."""
        if self.inserted is None or not 0 < layer < len(self.inserted):
            return x
        rows, places = packing.segments[-1].rows, packing.places[-1]
        return x.index_copy(0, places.flatten(), self.inserted[layer, rows].flatten(0, 1).to(x.dtype))


@dataclass(frozen=True)
class View:
    """How one layer's attention reads the packed tensor: rectangles of queries and keys, group by group.

    masks: bool (samples, 1, 1, P + width), the keys that are seen (None: all).
    prefix: keys and values, each per group (samples, P, D).
    """

    heads: int
    queries: Sequence[Grid]
    keys: Sequence[Grid]
    masks: Sequence[Tensor | None]
    prefix: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Each packed query (Nq, D) reads the packed keys and values (N, D) of its own sample -> (Nq, D)."""
        queries = _spread(query, self.queries)
        keys, values = _spread(key, self.keys), _spread(value, self.keys)
        if self.prefix is not None:
            keys, values = _before(self.prefix[0], keys), _before(self.prefix[1], values)
        read = []
        for grid, mask, *qkv in zip(self.queries, self.masks, queries, keys, values, strict=True):
            q, k, v = (self._heads(part) for part in qkv)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            read.append(grid.collect(mixed.transpose(1, 2).flatten(2)))
        return torch.cat(read)

    def _heads(self, rectangle: Tensor) -> Tensor:
        """(samples, width, D) -> (samples, heads, width, D / heads)"""
        samples, width, channels = rectangle.shape
        return rectangle.view(samples, width, self.heads, channels // self.heads).transpose(1, 2)


def views(packing: Packing, prompts: Prompts, *, heads: int, depth: int) -> list[View]:
    """The view of each of `depth` layers; the first ones see the prefixes that are there for them."""
    grids = packing.grids
    plain = View(heads, grids, grids, [_mask(grid) for grid in grids])
    keys, values, visible = prompts.keys, prompts.values, prompts.visible
    if keys is None or values is None:
        return [plain] * depth
    if visible is not None:  # a hidden slot may hold anything, and NaN times zero is NaN
        keys, values = (part.where(visible[None, :, :, None], 0) for part in (keys, values))
    shown = _by_group(packing, visible) if visible is not None else [None] * len(grids)
    masks = [_mask(grid, keys.shape[2], seen) for grid, seen in zip(grids, shown, strict=True)]
    prefixes = [(_by_group(packing, k), _by_group(packing, v)) for k, v in zip(keys, values, strict=True)]
    prefixed = [replace(plain, masks=masks, prefix=prefix) for prefix in prefixes]
    return prefixed + [plain] * (depth - len(prefixed))


def _by_group(packing: Packing, by_sample: Tensor) -> Sequence[Tensor]:
    """(B, ...) -> per group of the packing (samples, ...)."""
    return torch.split_with_sizes(by_sample[packing.order], packing.groups)


def _mask(grid: Grid, prefix: int = 0, visible: Tensor | None = None) -> Tensor | None:
    """bool (samples, 1, 1, prefix + width): which prefixes and which tokens are seen; None: all."""
    filled = grid.filled()
    if filled is None:
        if visible is None:
            return None
        filled = visible.new_ones(grid.samples, grid.width)
    if visible is None:
        visible = filled.new_ones(grid.samples, prefix)
    return torch.cat([visible, filled], dim=1)[:, None, None]


def _spread(packed: Tensor, grids: Sequence[Grid]) -> list[Tensor]:
    parts = torch.split_with_sizes(packed, [grid.tokens for grid in grids])
    return [grid.spread(part) for grid, part in zip(grids, parts, strict=True)]


def _before(prefix: Sequence[Tensor], rectangles: Sequence[Tensor]) -> list[Tensor]:
    return [torch.cat([p.to(r.dtype), r], dim=1) for p, r in zip(prefix, rectangles, strict=True)]

"""Outputs and inputs of any nesting (tensors in tuples, lists, mappings, dataclasses): read, map, and join by rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from absentia.errors import UserError

__all__ = ["joined", "mapped", "tensors"]


def tensors(value: Any) -> list[Tensor]:
    """All tensors in it, in order."""
    return [leaf for leaf in pytree.tree_leaves(_opened(value)) if isinstance(leaf, Tensor)]


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nesting with every tensor changed."""
    return pytree.tree_map(lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, value)


def joined(parts: Sequence[Any], rows: Sequence[Tensor], size: int) -> Any:
    """Outputs for some rows each, long (n,), as one output for all `size` rows.

    Raises `UserError` where a tensor has no axis of rows in front, as a mean over the batch has none.
    """
    back = torch.cat(list(rows)).argsort()
    flat, shape = pytree.tree_flatten(parts[0])
    others = [flat, *(pytree.tree_leaves(part) for part in parts[1:])]
    out = []
    for leaves in zip(*others, strict=True):
        if not isinstance(leaves[0], Tensor):
            out.append(leaves[0])
            continue
        if any(leaf.ndim == 0 or len(leaf) != len(mine) for leaf, mine in zip(leaves, rows, strict=True)):
            raise UserError(
                f"the network's output {tuple(leaves[0].shape)} has no row for each of its {len(rows[0])} inputs, so "
                "rows of several patterns cannot run apart; give it one pattern at a time"
            )
        out.append(torch.cat(leaves).index_select(0, back))
    return pytree.tree_unflatten(out, shape)


def _opened(value: Any) -> Any:
    """A dataclass as a dict, as it may not be known to pytree."""
    if isinstance(value, Mapping | tuple | list | Tensor) or not hasattr(value, "__dataclass_fields__"):
        return value
    return dict(vars(value))

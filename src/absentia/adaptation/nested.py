"""Outputs and inputs of any nesting (tensors in tuples, lists, mappings, dataclasses): read, map, and join by rows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from absentia.errors import UserError

__all__ = ["joined", "mapped", "tensors"]


def tensors(value: Any) -> list[Tensor]:
    """All tensors in it, in order."""
    return [leaf for leaf in _leaves(value) if isinstance(leaf, Tensor)]


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nesting with every tensor changed."""
    return _rebuilt(value, iter([change(leaf) if isinstance(leaf, Tensor) else leaf for leaf in _leaves(value)]))


def joined(parts: Sequence[Any], rows: Sequence[Tensor], axes: Sequence[int] = ()) -> Any:
    """Outputs for some rows each, long (n,), as one output for all rows.

    axes: per tensor that of the rows; the first one of a tensor of which nothing is said.
    Raises `UserError` where a tensor has no such axis, as a mean over the batch has none, or where the outputs are not
    of one form.
    """
    back = torch.cat(list(rows)).argsort()
    flat = [_leaves(part) for part in parts]
    if len({len(leaves) for leaves in flat}) > 1:
        raise UserError("the network's outputs differ in form from pattern to pattern; give it one pattern at a time")
    out: list[Any] = []
    known = iter(axes)
    for leaves in zip(*flat, strict=True):
        if not all(isinstance(leaf, Tensor) for leaf in leaves):
            if any(isinstance(leaf, Tensor) or leaf != leaves[0] for leaf in leaves):
                raise UserError(
                    f"the network's output holds {leaves[0]!r} for one pattern and another value for the next; "
                    "give it one pattern at a time"
                )
            out.append(leaves[0])
            continue
        axis = next(known, 0)
        if any(leaf.ndim <= axis or leaf.shape[axis] != len(mine) for leaf, mine in zip(leaves, rows, strict=True)):
            raise UserError(
                f"the network's output {tuple(leaves[0].shape)} has no row for each of its {len(rows[0])} inputs, so "
                "rows of several patterns cannot run apart; give it one pattern at a time"
            )
        if len({(*leaf.shape[:axis], *leaf.shape[axis + 1 :]) for leaf in leaves}) > 1:
            shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
            raise UserError(
                f"the network's outputs differ in shape from pattern to pattern ({shapes}), so they cannot be put "
                "together; give it one pattern at a time"
            )
        out.append(torch.cat(leaves, dim=axis).index_select(axis, back))
    return _rebuilt(parts[0], iter(out))


def _is_open(value: Any) -> bool:
    """Whether a leaf of torch's own nesting is a dataclass, which it does not look into."""
    return is_dataclass(value) and not isinstance(value, type)


def _leaves(value: Any) -> list[Any]:
    out = []
    for leaf in pytree.tree_leaves(value):
        if _is_open(leaf):
            for name in _names(leaf):
                out += _leaves(getattr(leaf, name))
        else:
            out.append(leaf)
    return out


def _rebuilt(value: Any, leaves: Iterator[Any]) -> Any:
    """The nesting of `value` around other leaves, in order."""

    def one(leaf: Any) -> Any:
        if not _is_open(leaf):
            return next(leaves)
        new = copy.copy(leaf)
        for name in _names(leaf):
            object.__setattr__(new, name, _rebuilt(getattr(leaf, name), leaves))
        return new

    return pytree.tree_map(one, value)


def _names(value: Any) -> list[str]:
    return [field.name for field in fields(value) if hasattr(value, field.name)]

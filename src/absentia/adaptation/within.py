"""Attention and recurrent layers on rows of several patterns: each pattern's rows together, on weights of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from absentia.adaptation.forms import RowsOf

__all__ = ["run_within"]


def run_within(
    module: nn.Module, shadows: Sequence[nn.Module], rows: RowsOf | None, args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    """The module's output where row i runs on `shadows[rows.ids[i]]`."""
    if rows is None:
        return type(shadows[0]).forward(shadows[0], *args, **kwargs)
    parts, order = [], []
    for number, shadow in enumerate(shadows):
        mine = (rows.ids == number).nonzero()[:, 0]
        if len(mine):
            order.append(mine)
            select = _attention_rows if isinstance(module, nn.MultiheadAttention) else _recurrent_rows
            parts.append(_forward(shadow, *select(module, mine, len(rows.ids), rows.axis, args, kwargs)))
    back = torch.cat(order).argsort()
    if isinstance(module, nn.MultiheadAttention):
        outputs = torch.cat([p[0] for p in parts], dim=rows.axis).index_select(rows.axis, back)
        weights = None if parts[0][1] is None else torch.cat([p[1] for p in parts]).index_select(0, back)
        return outputs, weights
    outputs = torch.cat([p[0] for p in parts], dim=rows.axis).index_select(rows.axis, back)
    if isinstance(module, nn.LSTM):
        return outputs, tuple(torch.cat([p[1][i] for p in parts], dim=1).index_select(1, back) for i in range(2))
    return outputs, torch.cat([p[1] for p in parts], dim=1).index_select(1, back)


def _forward(shadow: nn.Module, *args: Any) -> Any:
    return type(shadow).forward(shadow, *args)


def _attention_rows(
    module: nn.Module, mine: Tensor, count: int, axis: int, args: Sequence[Any], kwargs: dict[str, Any]
) -> list[Any]:
    """The arguments of nn.MultiheadAttention for some of the rows, all by position."""
    names = (
        "query",
        "key",
        "value",
        "key_padding_mask",
        "need_weights",
        "attn_mask",
        "average_attn_weights",
        "is_causal",
    )
    default = dict(zip(names[3:], (None, True, None, True, False), strict=True))
    given = default | dict(zip(names, args, strict=False)) | kwargs
    for name in names[:3]:
        given[name] = given[name].index_select(axis, mine)
    if given["key_padding_mask"] is not None:
        given["key_padding_mask"] = given["key_padding_mask"].index_select(0, mine)
    mask = given["attn_mask"]
    if mask is not None and mask.ndim == 3:
        given["attn_mask"] = mask.view(count, -1, *mask.shape[1:]).index_select(0, mine).flatten(0, 1)
    return [given[name] for name in names]


def _recurrent_rows(
    module: nn.Module, mine: Tensor, count: int, axis: int, args: Sequence[Any], kwargs: dict[str, Any]
) -> list[Any]:
    """The arguments of a recurrent layer for some of the rows."""
    given = dict(zip(("input", "hx"), args, strict=False)) | kwargs
    if isinstance(given["input"], PackedSequence):
        raise TypeError("packed sequences of several patterns")
    start = given.get("hx")
    if isinstance(start, tuple):
        start = tuple(part.index_select(1, mine) for part in start)
    elif start is not None:
        start = start.index_select(1, mine)
    return [given["input"].index_select(axis, mine), start]

"""Losses in float32 whatever autocast says: what compares rows with each other needs more than the 8 bits of bf16.

A mean of squared differences of rows that are nearly alike is made of what bf16 rounds away, and a covariance adds up
n * n products.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

__all__ = ["exact", "exactly"]

P = ParamSpec("P")
T = TypeVar("T")
HALVES = (torch.bfloat16, torch.float16)


def exact(x: Tensor) -> Tensor:
    """In float32 where it is in half precision; float64 stays."""
    return x.float() if x.dtype in HALVES else x


def exactly(function: Callable[P, T]) -> Callable[P, T]:
    """The function with its tensors widened and autocast off."""

    @wraps(function)
    def wide(*args: P.args, **kwargs: P.kwargs) -> T:
        given = [_widened(x) for x in args]
        named = {name: _widened(x) for name, x in kwargs.items()}
        kinds = {x.device.type for x in (*args, *kwargs.values()) if isinstance(x, Tensor)} or {"cpu"}
        with torch.autocast(kinds.pop(), enabled=False):
            return function(*given, **named)  # type: ignore[arg-type]

    return wide


def _widened(x: object) -> object:
    return exact(x) if isinstance(x, Tensor) else x

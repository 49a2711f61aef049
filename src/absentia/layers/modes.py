"""Modules that answer in between while they learn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode within; one that is in it already is not walked through."""
    if not module.training:
        yield
        return
    module.eval()
    try:
        yield
    finally:
        module.train()

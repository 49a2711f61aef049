"""Which parameters of a pretrained encoder learn: all, none, or the biases alone (BitFit, Ben Zaken et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn

__all__ = ["still", "tune"]

WITH_BIAS = (nn.Linear, nn.LayerNorm, nn.modules.conv._ConvNd, nn.GroupNorm)
KEYS = ("key", "k_proj")  # a constant added to all keys cancels in the softmax: its gradient is zero


@contextmanager
def still(*modules: nn.Module) -> Iterator[None]:
    """Within, what runs builds no gradient for these modules' parameters, though it may pass through them."""
    moving = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in moving:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in moving:
            parameter.requires_grad_(True)


def tune(encoder: nn.Module, how: Literal["biases", "full", "frozen"]) -> None:
    """Set what requires gradients. Biases are told by the type of their module, never by a name."""
    encoder.requires_grad_(how == "full")
    if how != "biases":
        return
    for name, module in encoder.named_modules():
        bias = getattr(module, "bias", None) if isinstance(module, WITH_BIAS) else None
        if isinstance(bias, nn.Parameter) and name.rpartition(".")[2] not in KEYS:
            bias.requires_grad_(True)

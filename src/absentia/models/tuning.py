"""Which parameters of a pretrained encoder learn: all, none, or the biases alone (BitFit, Ben Zaken et al. 2022)."""

from __future__ import annotations

from typing import Literal

from torch import nn

__all__ = ["tune"]

WITH_BIAS = (nn.Linear, nn.LayerNorm, nn.modules.conv._ConvNd, nn.GroupNorm)
KEYS = ("key", "k_proj")  # a constant added to all keys cancels in the softmax: its gradient is zero


def tune(encoder: nn.Module, how: Literal["biases", "full", "frozen"]) -> None:
    """Set what requires gradients. Biases are told by the type of their module, never by a name."""
    encoder.requires_grad_(how == "full")
    if how != "biases":
        return
    for name, module in encoder.named_modules():
        bias = getattr(module, "bias", None) if isinstance(module, WITH_BIAS) else None
        if isinstance(bias, nn.Parameter) and name.rpartition(".")[2] not in KEYS:
            bias.requires_grad_(True)

"""Which parameters of a pretrained encoder learn: all, none, biases alone (BitFit), or products of low rank (LoRA).

BitFit: Ben Zaken et al., ACL 2022 (arXiv 2106.10199). LoRA: Hu et al., ICLR 2022 (arXiv 2106.09685), by peft.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from absentia.data.kinds.base import TUNES, rank_of
from absentia.errors import UserError, nearest
from absentia.layers.side_stream import side_layers

__all__ = ["still", "tune"]

KEYS = ("key", "k_proj", "k_lin", "k")  # a constant added to all keys cancels in the softmax: its gradient is zero
TURNED = ("Rotary", "RoFormerSinusoidal")  # but not where keys are turned by their place


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


def tune(encoder: nn.Module, how: str, source: str = "") -> None:
    """Set what requires gradients, and put LoRA's factors in place: full, frozen, biases, lora or lora:RANK.

    Raises `UserError` for an encoder without biases, and for LoRA without peft.
    """
    if rank_of(how) is not None:
        _low_rank(encoder, rank_of(how) or 1, source)
        return
    if how not in TUNES:
        raise UserError(f"tune {how!r}: {nearest(how, TUNES)}")
    encoder.requires_grad_(how == "full")
    if how == "biases" and not _biases(encoder):
        raise UserError(f"encoder {source!r} has no biases to tune; say lora, full or frozen instead")


def _biases(encoder: nn.Module) -> int:
    """Let biases learn, told by what their module is and never by a name; but for those of keys. How many."""
    turned = any(word in type(module).__name__ for module in encoder.modules() for word in TURNED)
    count = 0
    for name, module in encoder.named_modules():
        bias = _bias(module)
        if bias is not None and (turned or name.rpartition(".")[2] not in KEYS):
            bias.requires_grad_(True)
            count += 1
    return count


def _bias(module: nn.Module) -> nn.Parameter | None:
    """What a module with a weight adds to each of its outputs: of linear layers, convolutions and norms, anybody's."""
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if not isinstance(weight, Tensor) or not isinstance(bias, nn.Parameter):
        return None
    return bias if bias.dim() == 1 and len(bias) in weight.shape else None


def _low_rank(encoder: nn.Module, rank: int, source: str) -> None:
    """Beside queries and values where they are known (as in the paper), else beside every matrix."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError("tune lora needs peft: pip install 'absentia[lora]'") from None
    names = _matrices(encoder)
    if not names:
        raise UserError(
            f"encoder {source!r} is made of convolutions, where LoRA finds no matrices; say biases, full or frozen"
        )
    packed = isinstance(encoder.get_submodule(names[0]), Conv1D)  # stored the other way round
    target = "|".join(re.escape(name) for name in names)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=f"({target})", fan_in_fan_out=packed)
    inject_adapter_in_model(config, encoder)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def _matrices(encoder: nn.Module) -> list[str]:
    """Names of the layers that get factors; all of one type."""
    model: Any = getattr(encoder, "model", encoder)
    known = {id(part) for layer in side_layers(model) or [] for part in (layer.query, layer.value)}
    for kind in (nn.Linear, Conv1D):
        found = {name: module for name, module in encoder.named_modules() if isinstance(module, kind)}
        if found:
            return [name for name, module in found.items() if not known or id(module) in known]
    return []

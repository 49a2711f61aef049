"""Text encoders that make a text coarser on its way through: padding shows in theirs, and a text can be too short.

Funnel (arXiv 2006.03236) halves a text from block to block, CANINE (arXiv 2103.06874) reads a few characters as one.
What is left of a short text has no token for them to work on, so padding, which their attention does not read, is put
behind it: as much as is needed, whoever shares its batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["least_tokens", "lengthened", "makes_coarser"]

COARSER = ("canine", "funnel")


def makes_coarser(config: Any) -> bool:
    """Whether tokens are merged on the way, a text's last ones with the padding behind them."""
    return getattr(config, "model_type", None) in COARSER


def least_tokens(config: Any) -> int:
    """The least number of tokens from which on a text of any length goes through."""
    if not makes_coarser(config):
        return 1
    if config.model_type == "canine":
        return int(config.downsampling_rate)
    halved = len(config.block_sizes) - 1
    if config.attention_type != "relative_shift" or not halved:
        return 1  # no place is looked up from behind the end
    if config.separate_cls and not config.truncate_seq:
        return int(2 ** (halved + 1))
    return int(2 ** (halved if config.separate_cls else halved - 1) + 1)


def lengthened(inputs: Mapping[str, Tensor], tokens: int, padding: int) -> dict[str, Tensor]:
    """Inputs (n, T) with padding behind them, (n, `tokens`), where T is less; no mask reads it.

    padding: the number of its token.
    """
    more = tokens - inputs["input_ids"].shape[1]
    if more <= 0:
        return dict(inputs)
    mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
    fills = {"input_ids": padding}
    return {key: F.pad(x, (0, more), value=fills.get(key, 0)) for key, x in {**inputs, "attention_mask": mask}.items()}

"""What adapters are measured against: whole networks, one for each pattern, tuned further or trained from nothing."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from absentia.adaptation.practice import given_batches

if TYPE_CHECKING:
    from absentia.adaptation.fit import Loss
    from absentia.adaptation.network import Adapted

__all__ = ["dedicated", "fine_tuned", "train_for"]

NORMS = nn.modules.batchnorm._BatchNorm


def fine_tuned(net: Adapted, pattern: Tensor, loader: Iterable[Any], loss: Loss, **settings: Any) -> nn.Module:
    """A copy of the trained network, every parameter of which goes on learning under one pattern, bool (M,).

    Its batch norms keep their statistics.
    """
    copied = copy.deepcopy(net.network).requires_grad_(True)
    return train_for(net, copied, pattern, loader, loss, fixed_norms=True, **settings)


def dedicated(
    net: Adapted, fresh: Callable[[], nn.Module], pattern: Tensor, loader: Iterable[Any], loss: Loss, **settings: Any
) -> nn.Module:
    """A network of the same architecture that never saw anything but one pattern, bool (M,)."""
    return train_for(net, fresh(), pattern, loader, loss, fixed_norms=False, **settings)


def train_for(
    net: Adapted,
    network: nn.Module,
    pattern: Tensor,
    loader: Iterable[Any],
    loss: Loss,
    *,
    epochs: int,
    lr: float,
    fixed_norms: bool,
    weight_decay: float = 0.01,
) -> nn.Module:
    """Train a whole network on rows that can show a pattern, absent modalities filled in as `net` does."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    steps = epochs * sum(1 for _ in given_batches(net, loader))
    network.train()
    for module in network.modules() if fixed_norms else ():
        if isinstance(module, NORMS):
            module.eval()
    for step in range(epochs):
        for number, given in enumerate(given_batches(net, loader)):
            share = (step * steps / epochs + number) / max(1, steps)
            for group in optimizer.param_groups:
                group["lr"] = lr * min(1.0, 10 * share + 0.05) * 0.5 * (1 + math.cos(math.pi * share))
            able = (given.presence | ~pattern.to(given.presence.device)).all(dim=1).nonzero()[:, 0]
            if not len(able):
                continue
            part = given.rows(able)
            filled = net.filled(part.arguments, pattern.to(given.presence.device).expand(len(able), -1))
            optimizer.zero_grad(set_to_none=True)
            loss(net.plan.signature.call(network, filled), part.target).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()

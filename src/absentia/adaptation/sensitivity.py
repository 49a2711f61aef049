"""Which modalities a network leans on, and which channels suffer most when one goes: adapt only those.

An extension; the paper adapts after every layer alike. Nearest relative: SPT (He et al. 2023, arXiv 2303.08566). The
score of a channel is the sum over batches of the squared gradients of its values, at the identity, under a pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from absentia.adaptation.forms import Affine
from absentia.adaptation.practice import given_batches
from absentia.errors import UserError

if TYPE_CHECKING:
    from absentia.adaptation.fit import Loss
    from absentia.adaptation.network import Adapted

__all__ = ["Chosen", "channel_scores", "keep_best_channels", "modality_importance"]

Chosen = Literal["sensitivity", "random", "lowest"]


def channel_scores(net: Adapted, loader: Iterable[Any], loss: Loss) -> dict[str, Tensor]:
    """Per site the score of every channel of every set that has it, (S', C)."""
    if not isinstance(net.bank.form, Affine) or net.bank.kind.composed:
        raise UserError(f"kind {net.bank.kind.name!r}: only scales and shifts per pattern have channels to choose from")
    totals = {site.name: torch.zeros(0) for site in net.bank.sites}
    with _untrained(net):
        for given in given_batches(net, loader):
            for pattern in net.bank.sets.to(given.presence.device):
                able = (given.presence | ~pattern).all(dim=1).nonzero()[:, 0]
                if not len(able):
                    continue
                part = given.rows(able)
                net.zero_grad(set_to_none=True)
                loss(net.answer(part.arguments, pattern.expand(len(able), -1)), part.target).backward()  # type: ignore[no-untyped-call]
                for site in net.bank.sites:
                    total = torch.stack([_square(value) for value in net.bank.raw(site).values()]).sum(dim=0)
                    before = totals[site.name]
                    totals[site.name] = total if not before.numel() else before + total
    net.zero_grad(set_to_none=True)
    if not all(total.numel() for total in totals.values()):
        raise UserError("no row of the loader can show any pattern")
    return totals


def keep_best_channels(
    net: Adapted, scores: dict[str, Tensor], budget: float, by: Chosen = "sensitivity", seed: int = 0
) -> None:
    """Let only a share of each set's channels learn, over all sites together: those with the highest scores.

    by: "random" and "lowest" are controls.  budget: from 0 to 1. Raises `UserError` for another budget.
    """
    if not 0 < budget <= 1:
        raise UserError(f"budget {budget}: a share of the channels, above 0 and at most 1")
    bank = net.bank
    masks = {site.name: torch.zeros_like(scores[site.name], dtype=torch.bool) for site in bank.sites}
    draw = torch.Generator().manual_seed(seed)
    for number in range(len(bank.sets)):
        mine = [(site.name, row) for site in bank.sites if (row := int(bank.rows[site.name][number])) >= 0]
        flat = torch.cat([scores[name][row] for name, row in mine]).cpu()
        ranked = torch.rand(len(flat), generator=draw) if by == "random" else -flat if by == "lowest" else flat
        keep = torch.zeros(len(flat), dtype=torch.bool)
        keep[ranked.topk(max(1, round(budget * len(flat)))).indices] = True
        for (name, row), part in zip(mine, torch.split(keep, [scores[name].shape[1] for name, _ in mine]), strict=True):
            masks[name][row] = part.to(masks[name].device)
    for site in bank.sites:
        bank.keep(site, masks[site.name])


@torch.no_grad()
def modality_importance(
    net: Adapted, loader: Iterable[Any], score: Callable[[Any, Any], float | Tensor]
) -> dict[str, float]:
    """Per modality how much a score of the network as it was falls when that modality alone is filled in.

    score: the network's output and a batch's target to a mean over rows, higher is better.
    """
    gone = {name: 0.0 for name in net.names}
    whole, rows = 0.0, 0
    for given in given_batches(net, loader):
        able = given.presence.all(dim=1).nonzero()[:, 0]
        if not len(able):
            continue
        part, rows = given.rows(able), rows + len(able)
        whole += len(able) * float(score(net.answer(part.arguments, part.presence, base=True), part.target))
        for m, name in enumerate(net.names):
            shown = part.presence.clone()
            shown[:, m] = False
            if shown.any():
                gone[name] += len(able) * float(score(net.answer(part.arguments, shown, base=True), part.target))
    if not rows:
        raise UserError("no row has every modality, so nothing can be compared with it")
    return {name: (whole - total) / rows for name, total in gone.items()}


@contextmanager
def _untrained(net: Adapted) -> Iterator[None]:
    """Within, nothing is changed anywhere."""
    kept = [p.detach().clone() for p in net.bank.parameters()]
    with torch.no_grad():
        for parameter in net.bank.parameters():
            parameter.zero_()
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(net.bank.parameters(), kept, strict=True):
                parameter.copy_(value)


def _square(value: Tensor) -> Tensor:
    return torch.zeros_like(value) if value.grad is None else value.grad.square()

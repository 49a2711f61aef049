"""Which modalities a network leans on, and which channels suffer most when one goes: adapt only those.

An extension; the paper adapts after every layer alike. Nearest relative: SPT (He et al. 2023, arXiv 2303.08566). The
score of a channel is the sum over batches of the squared gradients of its values, at the identity, under a pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from absentia.adaptation.forms import Affine
from absentia.adaptation.practice import NO_GRADIENT, given_batches, loss_of
from absentia.errors import UserError, nearest

if TYPE_CHECKING:
    from absentia.adaptation.network import Adapted
    from absentia.adaptation.practice import Loss

__all__ = [
    "Chosen",
    "channel_scores",
    "keep_best_channels",
    "modality_importance",
    "restrict",
    "sensitive_sites",
]

Chosen = Literal["sensitivity", "random", "lowest"]


def restrict(net: Adapted, loader: Iterable[Any], loss: Loss | None, budget: float, by: Chosen, seed: int) -> None:
    """Let a share of the channels learn, all of them if `budget` is 1; what was chosen before is forgotten.

    Raises `UserError` for another budget or choice, and where there is no loss to choose by.
    """
    if not isinstance(budget, int | float) or not 0 < budget <= 1:
        raise UserError(f"budget {budget!r}: a share of the channels, above 0 and at most 1")
    if by not in get_args(Chosen):
        raise UserError(f"choose {by!r}: {nearest(str(by), get_args(Chosen))}")
    if budget == 1:
        net.bank.keep_all()
        return
    if loss is None:
        raise UserError("budget: the channels are chosen by the gradients of a loss; give one")
    keep_best_channels(net, channel_scores(net, loader, loss), budget, by, seed)


def channel_scores(net: Adapted, loader: Iterable[Any], loss: Loss) -> dict[str, Tensor]:
    """Per site the score of every channel of every set that has it, (S', C).

    Raises `UserError` for a kind without channels, and where no row can show a pattern that has adapters.
    """
    if not isinstance(net.bank.form, Affine) or net.bank.kind.composed:
        raise UserError(f"kind {net.bank.kind.name!r}: only scales and shifts per pattern have channels to choose from")
    totals = {site.name: torch.zeros_like(next(iter(net.bank.raw(site).values()))) for site in net.bank.sites}
    shown = False
    if net.fillers.unmeasured:
        net.measure(loader)
    with _untrained(net):
        for given in given_batches(net, loader):
            for number, pattern in enumerate(net.bank.sets.to(given.presence.device)):
                able = (given.presence | ~pattern).all(dim=1).nonzero()[:, 0]
                if not len(able) or not net.bank.count(number):
                    continue
                part, shown = given.rows(able), True
                net.zero_grad(set_to_none=True)
                value = loss_of(loss, net.answer(part.arguments, pattern.expand(len(able), -1)), part.target)
                if not value.requires_grad:
                    raise UserError(NO_GRADIENT)
                value.backward()  # type: ignore[no-untyped-call]
                for site in net.bank.sites:
                    totals[site.name] += torch.stack([_square(value) for value in net.bank.raw(site).values()]).sum(0)
    net.zero_grad(set_to_none=True)
    if not shown:
        raise UserError("no row of the loader can show any pattern that has adapters")
    return totals


def sensitive_sites(net: Adapted, loader: Iterable[Any], loss: Loss) -> dict[str, dict[str, float]]:
    """Per pattern the share of every site in the scores of all channels, the site that suffers most first."""
    scores = channel_scores(net, loader, loss)
    out = {}
    for number, name in enumerate(net.bank.set_names):
        rows = {site.name: int(net.bank.rows[site.name][number]) for site in net.bank.sites}
        found = {site: float(scores[site][row].sum()) for site, row in rows.items() if row >= 0}
        total = sum(found.values()) or 1.0
        out[name] = {site: found[site] / total for site in sorted(found, key=lambda s: -found[s])}
    return out


def keep_best_channels(
    net: Adapted, scores: dict[str, Tensor], budget: float, by: Chosen = "sensitivity", seed: int = 0
) -> None:
    """Let only a share of each set's channels learn, over all sites together: those with the highest scores.

    by: "random" and "lowest" are controls.  budget: from 0 to 1.
    """
    bank = net.bank
    masks = {site.name: torch.zeros_like(scores[site.name], dtype=torch.bool) for site in bank.sites}
    draw = torch.Generator().manual_seed(seed)
    for number in range(len(bank.sets)):
        mine = [(site.name, row) for site in bank.sites if (row := int(bank.rows[site.name][number])) >= 0]
        if not mine:
            continue
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
    """Within, nothing is changed anywhere, and every channel could be."""
    kept, masks = [p.detach().clone() for p in net.bank.parameters()], dict(net.bank.kept.items())
    net.bank.keep_all()
    with torch.no_grad():
        for parameter in net.bank.parameters():
            parameter.zero_()
    try:
        yield
    finally:
        net.bank.kept.update(masks)
        with torch.no_grad():
            for parameter, value in zip(net.bank.parameters(), kept, strict=True):
                parameter.copy_(value)


def _square(value: Tensor) -> Tensor:
    return torch.zeros_like(value) if value.grad is None else value.grad.square()

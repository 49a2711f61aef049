"""Adapters without labels and without gradients: channel by channel the mean and spread of complete rows.

Site by site, in the order in which the network runs: gamma = sd_full / sd_shown, clamped, and beta = mean_full -
gamma mean_shown, where what is shown has already been corrected at every site before. One pass with everything, and
one for each pattern.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from absentia.adaptation.forms import Affine, Values
from absentia.adaptation.practice import Given, given_batches
from absentia.adaptation.presence import parsed_all
from absentia.adaptation.sites import Site
from absentia.errors import UserError

if TYPE_CHECKING:
    from absentia.adaptation.network import Adapted

__all__ = ["calibrate_adapters"]

LEAST, MOST = 0.2, 5.0  # of gamma
TINY = 1e-6  # a spread below this says nothing


class _Moments:
    """Means and spreads of the channels of a site."""

    def __init__(self, output: Tensor, axis: int) -> None:
        flat = output.detach().movedim(axis, -1).flatten(0, -2).double()
        self.mean, self.spread = flat.mean(dim=0), flat.std(dim=0, unbiased=False)


@torch.no_grad()
def calibrate_adapters(net: Adapted, loader: Iterable[Any], patterns: Any, rows: int) -> None:
    """Set scales and shifts from the first complete rows of a loader; targets are not looked at.

    Sites inside attention and recurrent layers keep what they have. Raises `UserError` for a kind without scale and
    shift, for a composed one, and where no row is complete.
    """
    bank = net.bank
    if not isinstance(bank.form, Affine) or not (bank.form.scale and bank.form.shift) or bank.kind.composed:
        raise UserError(
            f"calibrate: kind {bank.kind.name!r} has no scale and shift per pattern; take scale-shift or norm"
        )
    if net.fillers.unmeasured:
        net.measure(loader)
    given = _complete(net, loader, rows)
    full: dict[str, _Moments] = {}
    net.run_changed(given.arguments, given.presence, partial(_noted, full))
    for pattern in parsed_all(patterns, net.names) if patterns != "all" else bank.sets:
        number = int(bank.sets_of(pattern[None], "error")[0])
        mine = {site.name: row for site in bank.sites if (row := int(bank.rows[site.name][number])) >= 0}
        made: dict[str, Values] = {}
        change = partial(_corrected, full, mine, made)
        net.run_changed(given.arguments, pattern.expand(len(given.presence), -1), change)
        for site in bank.sites:
            for name, value in bank.raw(site).items() if site.name in made else ():
                value[mine[site.name]] = made[site.name][name].to(value)


def _complete(net: Adapted, loader: Iterable[Any], rows: int) -> Given:
    """The first complete rows, as one batch."""
    parts, count = [], 0
    for given in given_batches(net, loader, labelled=False):
        able = given.presence.all(dim=1).nonzero()[:, 0][: rows - count]
        if len(able):
            parts.append(given.rows(able))
            count += len(able)
        if count >= rows:
            break
    if not parts:
        raise UserError("calibrate: no row has every modality, and the spread of complete rows is what it needs")
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: list[Given]) -> Given:
    sizes = [len(part.presence) for part in parts]

    def cat(values: list[Any]) -> Any:
        first = values[0]
        if isinstance(first, Tensor):
            alike = first.ndim and all(len(v) == n for v, n in zip(values, sizes, strict=True))
            return torch.cat(values) if alike else first
        if isinstance(first, dict):
            return {key: cat([v[key] for v in values]) for key in first}
        return type(first)(map(cat, map(list, zip(*values, strict=True)))) if isinstance(first, list | tuple) else first

    arguments = {name: cat([part.arguments[name] for part in parts]) for name in parts[0].arguments}
    return Given(arguments, None, torch.cat([part.presence for part in parts]))


def _noted(full: dict[str, _Moments], site: Site, output: Tensor) -> Tensor:
    if site.name not in full:
        full[site.name] = _Moments(output, site.type.axis(site.module, output.ndim))
    return output


def _corrected(
    full: dict[str, _Moments], mine: Container[str], made: dict[str, Values], site: Site, output: Tensor
) -> Tensor:
    """The output with the moments that it had when nothing was absent, at sites that are `mine`."""
    if site.name not in mine:
        return output
    axis = site.type.axis(site.module, output.ndim)
    if site.name not in made:
        now, then = _Moments(output, axis), full[site.name]
        gamma = (then.spread / now.spread.clamp(min=TINY)).clamp(LEAST, MOST)
        gamma = torch.where((now.spread < TINY) | (then.spread < TINY), torch.ones_like(gamma), gamma)
        made[site.name] = {"scale": gamma - 1, "shift": then.mean - gamma * now.mean}
    shape = [1] * output.ndim
    shape[axis] = -1
    scale, shift = (made[site.name][name].to(output.dtype).view(shape) for name in ("scale", "shift"))
    return output * (1 + scale) + shift

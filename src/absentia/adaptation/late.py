"""Complete rows of a network's first calls in the place of an example that `adapt` was not given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from absentia.adaptation.attach import Plan, planned
from absentia.adaptation.calls import Arguments
from absentia.adaptation.hooks import twin_of
from absentia.adaptation.nested import mapped
from absentia.adaptation.practice import given_batches
from absentia.adaptation.probe import three_rows
from absentia.adaptation.selection import in_backward
from absentia.errors import UserError

if TYPE_CHECKING:
    from absentia.adaptation.network import Adapted

__all__ = ["keep_rows", "try_out"]


def keep_rows(net: Adapted, arguments: Arguments, presence: Tensor) -> None:
    """Keep three rows of a first call with everything present, bool (B, M), for merges to be tried on."""
    if net.plan.example is not None or not len(presence) or not bool(presence.all()) or _recorded():
        return
    rows = mapped(three_rows(arguments, net.plan.signature), _own)
    net.plan = replace(net.plan, example=rows)
    net.hear("the first complete rows serve as the example that adapt was not given: merges are tried on them")


def try_out(net: Adapted, loader: Iterable[Any], *, labelled: bool) -> None:
    """Try the sites out on the first batch with complete rows, unless an example or an earlier batch did.

    Sites that change nothing stand still from then on, so files and parameters stay what they were. Where the network
    does not run on three rows of the batch, that is said, and nothing else changes.
    """
    if net.plan.tried:
        return
    net.plan = replace(net.plan, tried=True)
    example = _first_complete(net, loader, labelled)
    if example is None:
        net.hear("sites were not tried out: no row of the loader has every modality, and adapt was given no example=")
        return
    try:
        found = planned(twin_of(net.network), net.plan.signature, net.plan.asked, example)
    except (UserError, RuntimeError) as error:
        net.hear(f"sites were not tried out, as three rows of the first batch cannot serve as an example: {error}")
        return
    _take(net, found)


def _take(net: Adapted, found: Plan) -> None:
    """What was found about the sites holds from now on."""
    moving = {site.name for site in found.sites}
    sites = [site for site in net.plan.sites if site.name in moving]
    if not sites:  # of a head that was guessed wrong
        net.hear(f"on the first batch {found.sites[0].name!r} is what kind {net.bank.kind.name!r} should adapt; say so")
        return
    net.bank.stand_still(site.name for site in net.plan.sites if site.name not in moving)
    net.plan = replace(found, network=net.plan.network, sites=sites)
    net.hear("the first batch serves as the example that adapt was not given")
    for line in net.plan.findings():
        net.hear(line)


def _first_complete(net: Adapted, loader: Iterable[Any], labelled: bool) -> Arguments | None:
    for given in given_batches(net, loader, labelled=labelled):
        able = given.presence.all(dim=1).nonzero()[:3, 0]
        if len(able):
            return mapped(given.rows(able).arguments, _own)  # type: ignore[no-any-return]
    return None


def _own(value: Tensor) -> Tensor:
    return value.detach().clone()


def _recorded() -> bool:
    """Whether the call is traced, compiled or run again, so that nothing may be kept of it."""
    tracing = torch._C._get_tracing_state() is not None
    return tracing or torch.compiler.is_compiling() or in_backward()

"""The kinds of adapters by name: a form, and the sites that it is used at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from absentia.adaptation.forms import Affine, Form, LowRank
from absentia.adaptation.sites import Site
from absentia.errors import UserError, nearest

__all__ = ["KINDS", "Kind", "kind_named"]


@dataclass(frozen=True)
class Kind:
    """form: what is learned.  wants: at which sites.  composed: one set per absent modality, not one per pattern.

    head: only at the head, the last site that the network runs.
    """

    name: str
    form: Form
    wants: Callable[[Site], bool] = lambda site: True
    composed: bool = False
    head: bool = False

    def uses(self, sites: Sequence[Site]) -> list[Site]:
        """The sites where it learns something."""
        return [site for site in sites if self.wants(site) and self.form.shapes(site)]


def _has_bias(site: Site) -> bool:
    holder = site.module.out_proj if isinstance(site.module, nn.MultiheadAttention) else site.module
    bias = getattr(holder, "bias", None)
    return bias is not None and bias is not False


def _is_norm(site: Site) -> bool:
    return site.type.family == "norm"


KINDS = {
    kind.name: kind
    for kind in (
        Kind("scale-shift", Affine()),
        Kind("scale", Affine(shift=False)),
        Kind("shift", Affine(scale=False)),
        Kind("bias", Affine(scale=False), _has_bias),  # BitFit, Ben Zaken et al. 2022
        Kind("norm", Affine(), _is_norm),
        Kind("low-rank", LowRank()),
        Kind("head-only", LowRank(rank=0, bias=True), head=True),
        Kind("compositional", Affine(), composed=True),
    )
}


def kind_named(kind: str | Kind) -> Kind:
    """The kind called so ("low-rank:8" has rank 8), or what was given; raises `UserError` with the nearest one."""
    if isinstance(kind, Kind):
        return kind
    if not isinstance(kind, str):
        raise UserError(f"kind {kind!r}: expected a name ({', '.join(KINDS)}) or a Kind")
    name, _, rank = kind.partition(":")
    if name == "low-rank" and rank.isdigit() and int(rank):
        return Kind(kind, LowRank(rank=int(rank)))
    if kind not in KINDS:
        raise UserError(f"unknown kind {kind!r}; {nearest(kind, KINDS)}")
    return KINDS[kind]

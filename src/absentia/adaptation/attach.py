"""Where a network is going to be adapted: its sites, owners and rows, and in words what was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from absentia.adaptation.calls import Arguments, Signature
from absentia.adaptation.kinds import Kind
from absentia.adaptation.liveness import dead_sites
from absentia.adaptation.probe import Fold, Probed, probed, three_rows
from absentia.adaptation.sites import Filter, LeftOut, Site, find_sites, owned
from absentia.errors import UserError, nearest

__all__ = ["Asked", "Plan", "planned"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What sites are chosen by. modalities: prefixes of each; None finds them from the example."""

    modalities: Mapping[str, Sequence[str]] | None
    wanted: Filter
    kind: Kind
    head: str | None = None


@dataclass(frozen=True)
class Plan:
    """network: the twin that the sites belong to.  signature: how it is called.  asked: what the sites were chosen by.

    sites: where it is adapted.  left: what is not, and why.
    folds: per site where the rows of a call are; None where that is not known of every site.
    why_not: what speaks against running rows of several patterns in one pass; nothing if it is empty.
    axes: per tensor of the network's answer the axis of the rows, as far as it is known.
    example: arguments of a call of three rows with everything present.
    tried: whether the sites were tried out on one.
    """

    network: nn.Module
    signature: Signature
    asked: Asked
    sites: list[Site]
    left: list[LeftOut]
    folds: dict[str, Fold] | None
    why_not: str
    axes: tuple[int, ...] = ()
    example: Arguments | None = None
    tried: bool = False

    def lines(self) -> list[str]:
        """What matched, what did not and why."""
        by_owner = Counter(site.owner or "fusion" for site in self.sites)
        by_family = Counter(site.type.family for site in self.sites)
        whose = ", ".join(f"{count} {owner}" for owner, count in by_owner.items())
        what = ", ".join(f"{count} {family}" for family, count in by_family.items())
        out = [f"{len(self.sites)} sites: {what}", f"  belonging to {whose}", *self.findings()]
        if not self.tried:
            out.append("  not tried out: without an example= sites that change nothing are only found by fit")
        return out

    def findings(self) -> list[str]:
        """How mixed patterns run, and what was left out."""
        how = "in one pass" if not self.why_not else f"pattern by pattern ({self.why_not})"
        out = [f"  mixed patterns run {how}"]
        reasons: dict[str, list[str]] = {}
        for one in self.left:
            reasons.setdefault(one.reason, []).append(f"{one.name} ({one.type})")
        for reason, names in reasons.items():
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            out.append(f"  left out, {reason}: {', '.join(names[:3])}{more}")
        return out


def planned(network: nn.Module, signature: Signature, asked: Asked, example: Arguments | None) -> Plan:
    """Find the sites of a kind in a twin. Raises `UserError` where nothing can be adapted."""
    modalities, kind = asked.modalities, asked.kind
    sites, left = find_sites(network, asked.wanted)
    if not sites:
        why = f": {_reasons(left)}" if left else "; register_site makes a type of module one"
        raise UserError(f"the network has no site to adapt{why}")
    seen = None if example is None else probed(network, signature, sites, example)
    if modalities is not None:
        sites = owned(sites, modalities, network)
    elif seen is not None:
        sites = [replace(site, owner=_sole(seen.depends[site.name])) for site in sites]
    if seen is not None:
        sites, more = _running(sites, seen)
        left += more
    sites, more = _of_owners(sites, asked.wanted, signature.names)
    sites, unused = _of_kind(sites, kind, asked.head, seen)
    left += more + unused
    if not sites:
        raise UserError(f"kind {kind.name!r} finds no site: {_reasons(left)}")
    if example is not None:
        sites, dead = dead_sites(network, signature, sites, kind.form, example)
        left += dead
        if not sites:
            raise UserError(f"no site moves the output of the network on the example: {_reasons(dead)}")
    folds, why_not = _folds(sites, seen)
    axes = tuple(fold.axis if fold else 0 for fold in seen.answers) if seen else ()
    kept = None if example is None else three_rows(example, signature)
    return Plan(network, signature, asked, sites, left, folds, why_not, axes, kept, tried=example is not None)


def _reasons(left: Sequence[LeftOut]) -> str:
    """Why the first ones were left out."""
    more = f"; and {len(left) - 3} more" if len(left) > 3 else ""
    return "; ".join(f"{one.name} ({one.type}), {one.reason}" for one in left[:3]) + more


def _sole(depends: set[str]) -> str | None:
    return next(iter(depends)) if len(depends) == 1 else None


def _running(sites: Sequence[Site], seen: Probed) -> tuple[list[Site], list[LeftOut]]:
    """Without sites that never run, and without those that are the same whatever the input is."""
    kept, left = [], []
    for site in sites:
        kind = type(site.module).__name__
        if site.name not in seen.order:
            left.append(LeftOut(site.name, kind, "never runs on the example"))
        elif not seen.depends[site.name]:
            left.append(LeftOut(site.name, kind, "the same for all rows, as an embedding of positions is"))
        else:
            kept.append(site)
    return kept, left


def _of_owners(sites: Sequence[Site], wanted: Filter, names: Sequence[str]) -> tuple[list[Site], list[LeftOut]]:
    for owner in wanted.owners:
        if owner not in (*names, "fusion"):
            raise UserError(f"owners: {owner!r} is none of {', '.join(names)}, fusion")
    if not wanted.owners:
        return list(sites), []
    kept = [site for site in sites if (site.owner or "fusion") in wanted.owners]
    gone = [site for site in sites if site not in kept]
    return kept, [LeftOut(s.name, type(s.module).__name__, f"belongs to {s.owner or 'fusion'}") for s in gone]


def _of_kind(
    sites: Sequence[Site], kind: Kind, head: str | None, seen: Probed | None
) -> tuple[list[Site], list[LeftOut]]:
    """The sites that a kind uses."""
    if kind.head:
        return [_head(kind.uses(sites), head, seen)], []
    kept = kind.uses(sites)
    gone = [site for site in sites if site not in kept]
    return kept, [LeftOut(s.name, type(s.module).__name__, f"kind {kind.name} learns nothing there") for s in gone]


def _head(sites: Sequence[Site], head: str | None, seen: Probed | None) -> Site:
    """The site of this name, else the linear layer or convolution that runs last."""
    plain = {site.name: site for site in sites if site.type.family in ("linear", "conv")}
    if head is not None and head not in plain:
        raise UserError(f"head {head!r} is no linear layer or convolution that can be replaced; {nearest(head, plain)}")
    order = [name for name in (seen.order if seen else plain) if name in plain]
    if not order:
        raise UserError("the network has no linear layer or convolution that could be its head")
    return plain[order[-1] if head is None else head]


def _folds(sites: Sequence[Site], seen: Probed | None) -> tuple[dict[str, Fold] | None, str]:
    if seen is None:
        return None, "an example= would show whether they can run in one pass"
    unknown = [site.name for site in sites if seen.folds[site.name] is None]
    if unknown:
        return None, f"at {unknown[0]!r} rows look at each other, or cannot be told apart"
    why_not = "rows show in each other's answers" if seen.mixes else ""
    if seen.alike and not why_not:
        why_not = f"{seen.alike[0]!r} is the same in all rows of the example, and rows may be sorted by it"
    return {site.name: fold for site in sites if (fold := seen.folds[site.name]) is not None}, why_not

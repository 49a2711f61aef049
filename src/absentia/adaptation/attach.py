"""Where a network is going to be adapted: its sites, owners and rows, and in words what was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from absentia.adaptation.calls import Arguments, Signature
from absentia.adaptation.kinds import Kind
from absentia.adaptation.liveness import dead_sites
from absentia.adaptation.probe import Fold, Probed, probed
from absentia.adaptation.sites import Filter, LeftOut, Site, find_sites, owned
from absentia.errors import UserError

__all__ = ["Plan", "planned"]


@dataclass(frozen=True)
class Plan:
    """network: the twin that the sites belong to.  signature: how it is called.

    sites: where it is adapted.  left: what is not, and why.

    folds: per site where the rows of a call are; None where that is not known of every site.
    why_not: what is missing for `folds`.
    """

    network: nn.Module
    signature: Signature
    sites: list[Site]
    left: list[LeftOut]
    folds: dict[str, Fold] | None
    why_not: str

    def lines(self) -> list[str]:
        """What matched, what did not and why."""
        by_owner = Counter(site.owner or "fusion" for site in self.sites)
        by_family = Counter(site.type.family for site in self.sites)
        whose = ", ".join(f"{count} {owner}" for owner, count in by_owner.items())
        what = ", ".join(f"{count} {family}" for family, count in by_family.items())
        how = "in one pass" if self.folds is not None else f"pattern by pattern ({self.why_not})"
        out = [f"{len(self.sites)} sites: {what}", f"  belonging to {whose}", f"  mixed patterns run {how}"]
        reasons: dict[str, list[str]] = {}
        for one in self.left:
            reasons.setdefault(one.reason, []).append(f"{one.name} ({one.type})")
        for reason, names in reasons.items():
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            out.append(f"  left out, {reason}: {', '.join(names[:3])}{more}")
        return out


def planned(
    network: nn.Module,
    signature: Signature,
    modalities: Mapping[str, Sequence[str]] | None,
    wanted: Filter,
    kind: Kind,
    example: Arguments | None,
    head: str | None,
) -> Plan:
    """Find the sites of a kind in a twin. modalities: prefixes of each; None finds them from the example.

    Raises `UserError` where nothing can be adapted.
    """
    sites, left = find_sites(network, wanted)
    if not sites:
        known = f"; {left[0].name or 'the network'}: {left[0].reason}" if left else ""
        raise UserError(f"the network has no site to adapt{known}")
    seen = None if example is None else probed(network, signature, sites, example)
    if modalities is not None:
        sites = owned(sites, modalities, network)
    elif seen is not None:
        sites = [replace(site, owner=_sole(seen.depends[site.name])) for site in sites]
    if seen is not None:
        sites, more = _running(sites, seen)
        left += more
    sites, more = _of_owners(sites, wanted, signature.names)
    sites, unused = _of_kind(sites, kind, head, seen)
    left += more + unused
    if not sites:
        raise UserError(f"kind {kind.name!r} finds no site; {'; '.join(f'{x.name}: {x.reason}' for x in left[:3])}")
    if example is not None:
        sites, dead = dead_sites(network, signature, sites, kind.form, example)
        left += dead
        if not sites:
            raise UserError("no site moves the output of the network")
    folds, why_not = _folds(sites, seen)
    return Plan(network, signature, sites, left, folds, why_not)


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
        name = head or _last(sites, seen)
        sites = [site for site in sites if site.name == name]
        if not sites:
            raise UserError(f"head {name!r} is no site of the network")
        return kind.uses(sites), []
    kept = kind.uses(sites)
    gone = [site for site in sites if site not in kept]
    return kept, [LeftOut(s.name, type(s.module).__name__, f"no site of the kind {kind.name}") for s in gone]


def _last(sites: Sequence[Site], seen: Probed | None) -> str:
    """The linear layer or convolution that runs last."""
    plain = {site.name for site in sites if site.type.family in ("linear", "conv")}
    order = [name for name in (seen.order if seen else [site.name for site in sites]) if name in plain]
    if not order:
        raise UserError("kind 'head-only': the network has no linear layer or convolution; say head=")
    return order[-1]


def _folds(sites: Sequence[Site], seen: Probed | None) -> tuple[dict[str, Fold] | None, str]:
    if seen is None:
        return None, "an example= would show whether they can run in one pass"
    unknown = [site.name for site in sites if seen.folds[site.name] is None]
    if unknown:
        return None, f"the rows of {unknown[0]!r} do not stay apart or cannot be told"
    return {site.name: fold for site in sites if (fold := seen.folds[site.name]) is not None}, ""

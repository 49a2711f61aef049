"""Where a network can be modulated: its sites, whose they are, and what was left out and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.parameter import is_lazy

from absentia.adaptation.site_types import FAMILIES, SiteType, Weights, type_of
from absentia.errors import UserError, nearest

__all__ = ["Filter", "LeftOut", "Site", "find_sites", "owned"]


@dataclass(frozen=True, eq=False)
class Site:
    """One place that can be modulated.

    name: of its module, with the part inside it where there are several ("attention.in_proj").
    owner: the modality it belongs to; None where several meet.
    """

    name: str
    module: nn.Module
    type: SiteType
    part: str
    weights: Weights
    owner: str | None = None

    @property
    def channels(self) -> int:
        """C."""
        return self.weights.channels


@dataclass(frozen=True)
class LeftOut:
    """A module that is not modulated, and why."""

    name: str
    type: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which sites are wanted.

    include, exclude: globs over names.  types: families or types of modules; empty means all.
    depth: the most dots in a name.  owners: modalities, "fusion" for where several meet; empty means all.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    types: Sequence[str | type[nn.Module]] = ()
    depth: int | None = None
    owners: Sequence[str] = ()

    def refusal(self, name: str, module: nn.Module, family: str) -> str | None:
        """Why a module is not wanted; None if it is. Owners are looked at once they are known."""
        if self.include and not any(fnmatchcase(name, glob) for glob in self.include):
            return "not included"
        if any(fnmatchcase(name, glob) for glob in self.exclude):
            return "excluded"
        if self.types and not any(family == t if isinstance(t, str) else isinstance(module, t) for t in self.types):
            return f"a {family}, which was not asked for"
        if self.depth is not None and name.count(".") > self.depth:
            return f"deeper than {self.depth}"
        return None


def find_sites(network: nn.Module, wanted: Filter) -> tuple[list[Site], list[LeftOut]]:
    """The sites of a network in the order of its modules, and what has parameters but is none.

    A module that stands under several names is one site, under the first.
    Raises `UserError` for a glob or a family that matches nothing.
    """
    _check(network, wanted)
    sites: list[Site] = []
    left: list[LeftOut] = []
    inside: set[nn.Module] = set()
    first: dict[nn.Module, str] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        kind = type(module).__name__
        if module in first:
            if type_of(module):
                left.append(LeftOut(name, kind, f"the same module as {first[module]!r}, and modulated with it"))
            continue
        first[module] = name
        if module in inside:
            continue
        known = type_of(module)
        if known is None:
            left += _unknown(name, module)
            continue
        inside |= set(module.modules()) - {module}
        reason = _unfit(module) or wanted.refusal(name, module, known.family)
        if reason:
            left.append(LeftOut(name, kind, reason))
            continue
        for part, weights in known.weights(module).items():
            sites.append(Site(".".join(filter(None, (name, part))), module, known, part, weights))
    return sites, left


def owned(sites: Sequence[Site], modalities: Mapping[str, Sequence[str]], network: nn.Module) -> list[Site]:
    """The sites with their owners: those at or below a modality's prefixes are its own.

    Raises `UserError` for a prefix that names no module, and for two modalities that claim the same one.
    """
    names = [name for name, _ in network.named_modules(remove_duplicate=False) if name]
    for modality, prefixes in modalities.items():
        for prefix in prefixes:
            if prefix not in names:
                raise UserError(f"modality {modality!r}: no module is called {prefix!r}; {nearest(prefix, names)}")
    return [replace(site, owner=_owner(site, modalities)) for site in sites]


def _owner(site: Site, modalities: Mapping[str, Sequence[str]]) -> str | None:
    claims = [m for m, prefixes in modalities.items() if any(f"{site.name}.".startswith(f"{p}.") for p in prefixes)]
    if len(claims) > 1:
        raise UserError(
            f"{site.name!r} belongs to {claims[0]!r} and to {claims[1]!r}; name prefixes that do not overlap"
        )
    return claims[0] if claims else None


def _unknown(name: str, module: nn.Module) -> Iterator[LeftOut]:
    """Parameters that no known type of module owns."""
    own = [n for n, _ in module.named_parameters(recurse=False)]
    if own:
        reason = f"has parameters of its own ({', '.join(own[:3])}); register_site makes its type a site"
        yield LeftOut(name or "(the network)", type(module).__name__, reason)


def _unfit(module: nn.Module) -> str | None:
    if any(is_lazy(p) for p in module.parameters(recurse=False)):
        return "not initialised yet; run the network once before"
    if isinstance(module, nn.RNNBase) and module.proj_size:
        return "an LSTM with proj_size"
    return None


def _check(network: nn.Module, wanted: Filter) -> None:
    names = [name for name, _ in network.named_modules(remove_duplicate=False)]
    for glob in (*wanted.include, *wanted.exclude):
        if not any(fnmatchcase(name, glob) for name in names):
            raise UserError(f"no module is called {glob!r}; {nearest(glob, names)}")
    for kind in wanted.types:
        if isinstance(kind, str) and kind not in FAMILIES:
            raise UserError(f"types: unknown family {kind!r}; {nearest(kind, FAMILIES)}")

"""Where a network can be modulated: its sites, whose they are, and what was left out and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from absentia.adaptation.site_types import FAMILIES, SiteType, Weights, type_of
from absentia.errors import UserError, nearest

__all__ = ["Filter", "LeftOut", "Site", "find_sites", "owned"]

WHOLE = "(the network)"  # where a name is empty


@dataclass(frozen=True, eq=False)
class Site:
    """One place that can be modulated.

    name: of its module, with the part inside it where there are several ("attention.in_proj").
    owner: the modality it belongs to; None where several meet.
    network: the whole that the module is part of.
    """

    name: str
    module: nn.Module
    type: SiteType
    part: str
    weights: Weights
    network: nn.Module
    owner: str | None = None

    @property
    def channels(self) -> int:
        """C."""
        return self.weights.channels

    @property
    def like(self) -> Tensor:
        """A tensor of the type and on the device that it computes with."""
        held = (*self.module.parameters(), *self.module.buffers(), *self.network.parameters())
        return next((t for t in held if t.is_floating_point()), torch.empty(0))


@dataclass(frozen=True)
class LeftOut:
    """A module that is not modulated, and why."""

    name: str
    type: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which sites are wanted.

    include, exclude: globs over names, of a module that has several over any of them.
    types: families or types of modules; empty means all.
    depth: the most dots in a name.  owners: modalities, "fusion" for where several meet; empty means all.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    types: Sequence[str | type[nn.Module]] = ()
    depth: int | None = None
    owners: Sequence[str] = ()

    def refusal(self, names: Sequence[str], module: nn.Module, family: str) -> str | None:
        """Why a site is not wanted; None if it is. Owners are looked at once they are known.

        names: all that its module goes by, the first one in front, and those of the site.
        """
        if self.include and not _match(names, self.include):
            return "not included"
        if _match(names, self.exclude):
            return "excluded"
        if self.types and not any(family == t if isinstance(t, str) else isinstance(module, t) for t in self.types):
            return f"a {family}, which was not asked for"
        if self.depth is not None and names[0].count(".") > self.depth:
            return f"deeper than {self.depth}"
        return None


def _match(names: Sequence[str], globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for name in names for glob in globs)


def find_sites(network: nn.Module, wanted: Filter) -> tuple[list[Site], list[LeftOut]]:
    """The sites of a network in the order of its modules, and what has parameters but is none.

    A module that stands under several names is one site, under the first.
    Raises `UserError` for a glob or a family that matches nothing, and for a network that never ran.
    """
    _check(network, wanted)
    sites: list[Site] = []
    left: list[LeftOut] = []
    inside: set[nn.Module] = set()
    called = _names(network)
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
        unfit = _unfit(module)
        if unfit:
            left.append(LeftOut(name or WHOLE, kind, unfit))
            continue
        for part, weights in known.weights(module).items():
            names = [*called[module], *(_joined(n, part) for n in called[module])]
            reason = wanted.refusal(names, module, known.family)
            if reason:
                left.append(LeftOut(_joined(name, part) or WHOLE, kind, reason))
            else:
                sites.append(Site(_joined(name, part), module, known, part, weights, network))
    return sites, left


def _names(network: nn.Module) -> dict[nn.Module, list[str]]:
    """All names of each module, in order."""
    out: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        out.setdefault(module, []).append(name)
    return out


def _joined(*parts: str) -> str:
    return ".".join(filter(None, parts))


def owned(sites: Sequence[Site], modalities: Mapping[str, Sequence[str]], network: nn.Module) -> list[Site]:
    """The sites with their owners: those at or below a modality's prefixes are its own.

    A module under several names is a modality's own if all of them are.

    Raises `UserError` for a prefix that names no module, and for two modalities that claim the same one.
    """
    names = [name for name, _ in network.named_modules(remove_duplicate=False) if name]
    for modality, prefixes in modalities.items():
        for prefix in prefixes:
            if prefix not in names:
                raise UserError(f"modality {modality!r}: no module is called {prefix!r}; {nearest(prefix, names)}")
    called = _names(network)
    return [replace(site, owner=_owner(called[site.module], modalities)) for site in sites]


def _owner(names: Sequence[str], modalities: Mapping[str, Sequence[str]]) -> str | None:
    found: set[str | None] = set()
    for name in names:
        claims = [m for m, prefixes in modalities.items() if any(f"{name}.".startswith(f"{p}.") for p in prefixes)]
        if len(claims) > 1:
            raise UserError(
                f"modalities: {name!r} would belong to {claims[0]!r} and to {claims[1]!r}; "
                "give prefixes that do not overlap"
            )
        found.add(claims[0] if claims else None)
    return found.pop() if len(found) == 1 else None


def _unknown(name: str, module: nn.Module) -> Iterator[LeftOut]:
    """Parameters that no known type of module owns."""
    own = [n for n, _ in module.named_parameters(recurse=False)]
    if own:
        reason = f"has parameters of its own ({', '.join(own[:3])}); register_site makes its type a site"
        yield LeftOut(name or WHOLE, type(module).__name__, reason)


def _unfit(module: nn.Module) -> str | None:
    if isinstance(module, nn.RNNBase) and module.proj_size:
        return "an LSTM with proj_size"
    if isinstance(module, nn.RNNBase | nn.MultiheadAttention) and any(map(_is_computed, module.modules())):
        return "its weights are computed, as by weight_norm, so they cannot be replaced"
    return None


def _is_computed(module: nn.Module) -> bool:
    hooked = any(isinstance(value, Tensor) for value in vars(module).values())
    return is_parametrized(module) or hooked


def _check(network: nn.Module, wanted: Filter) -> None:
    for name, parameter in network.named_parameters():
        if is_lazy(parameter):
            raise UserError(f"{name!r} has no values yet, as this network never ran; run it once, and train it, first")
    called = _names(network)
    names = [name for several in called.values() for name in several if name]
    parts = [
        _joined(name, part)
        for module, several in called.items()
        if isinstance(module, nn.RNNBase | nn.MultiheadAttention) and (known := type_of(module))
        for name in several
        for part in known.weights(module)
    ]
    for what, globs in (("include", wanted.include), ("exclude", wanted.exclude)):
        for glob in globs:
            if not _match([*names, *parts], [glob]):
                raise UserError(f"{what}: no module is called {glob!r}; {nearest(glob, names)}")
    for kind in wanted.types:
        if isinstance(kind, str) and kind not in FAMILIES:
            raise UserError(f"types: unknown family {kind!r}; {nearest(kind, FAMILIES)}")
        if not isinstance(kind, str | type):
            raise UserError(f"types: {kind!r} is neither a family ({', '.join(FAMILIES)}) nor a type of module")

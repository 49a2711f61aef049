"""All that is learned: for each site the values of every set, one set per pattern or one per absent modality."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from absentia.adaptation.forms import Form, Values
from absentia.adaptation.kinds import Kind
from absentia.adaptation.sites import Site
from absentia.data.schema import pattern_name
from absentia.errors import UserError
from absentia.layers.naming import module_key

__all__ = ["Bank", "Unknown"]

Unknown = Literal["error", "nearest", "compose", "base"]
BASE = -1  # the set of a row that is not changed


class Bank(nn.Module):
    """Values by set and site, as parameters stacked over the sets that have the site.

    A set has no values in the branch of a modality that is absent under it. What has no values needs no gradient.
    names: the modalities.  patterns: bool (P, M), one set each; not used by a composed kind.
    kept: per site which channels of which set learn, bool (S, C); all where a site has none.
    still: names of sites that change nothing and do not learn.
    """

    def __init__(self, *, kind: Kind, sites: Sequence[Site], names: Sequence[str], patterns: Tensor, seed: int) -> None:
        super().__init__()
        self.kind, self.sites, self.names = kind, list(sites), list(names)
        eye = torch.eye(len(names), dtype=torch.bool)
        self.sets = ~eye if kind.composed else patterns  # what is present under each set, bool (S, M)
        self.values = nn.ModuleDict()
        self.rows: dict[str, Tensor] = {}  # per site the row of each set among its values, BASE where it has none
        self.kept = nn.ModuleDict()
        self.still: frozenset[str] = frozenset()
        draw = torch.Generator().manual_seed(seed)
        for site in self.sites:
            mine = torch.ones(len(self.sets), dtype=torch.bool)
            if site.owner is not None:
                mine = self.sets[:, self.names.index(site.owner)]
            self.rows[site.name] = torch.where(mine, mine.cumsum(0) - 1, BASE)
            self.values[module_key(site.name)] = self._begun(site, int(mine.sum()), draw)

    @property
    def form(self) -> Form:
        """What is learned at a site."""
        return self.kind.form

    @property
    def set_names(self) -> list[str]:
        """The patterns of the sets; of a composed kind the absent modalities."""
        if self.kind.composed:
            return [f"-{name}" for name in self.names]
        return [pattern_name(self.names, row) for row in self.sets.tolist()]

    def raw(self, site: Site) -> nn.ParameterDict:
        """The values at a site as they are kept, by name (S', ...)."""
        found = self.values[module_key(site.name)]
        assert isinstance(found, nn.ParameterDict)
        return found

    def at(self, site: Site) -> dict[str, Tensor]:
        """The values at a site by name (S', ...), with nothing in channels that do not learn."""
        raw = dict(self.raw(site).items())
        mask = self.mask(site)
        return raw if mask is None else {name: value * mask.to(value) for name, value in raw.items()}

    def mask(self, site: Site) -> Tensor | None:
        """Which channels of the site's sets learn, bool (S', C); None means all."""
        key = module_key(site.name)
        return self.kept[key].mask if key in self.kept else None  # type: ignore[return-value]

    def keep(self, site: Site, mask: Tensor) -> None:
        """Let only these channels learn, bool (S', C)."""
        self.kept[module_key(site.name)] = _Mask(mask.to(next(iter(self.raw(site).values())).device))

    def keep_all(self) -> None:
        """Let every channel learn."""
        self.kept.clear()

    def stand_still(self, names: Iterable[str]) -> None:
        """Sites of these names change nothing and do not learn from now on; their values stay where they are."""
        self.still |= frozenset(names)
        for site in self.sites:
            if site.name in self.still:
                self.raw(site).requires_grad_(False)

    def sets_of(self, patterns: Tensor, unknown: Unknown) -> Tensor:
        """The set of each pattern, bool (U, M) to long (U,); BASE for the full one. Of a kind that is not composed.

        Raises `UserError` for a pattern without a set where that is asked for.
        """
        same = (patterns[:, None] == self.sets.to(patterns.device)).all(dim=2)  # (U, P)
        found = (
            torch.where(same.any(dim=1), same.long().argmax(dim=1), BASE) if len(self.sets) else patterns.sum(1) * 0 - 1
        )
        for u in ((found == BASE) & ~patterns.all(dim=1)).nonzero()[:, 0].tolist():
            if unknown == "error":
                name = pattern_name(self.names, patterns[u].tolist())
                known = ", ".join(self.set_names) or "none"
                raise UserError(
                    f"no adapters for the pattern {name!r}, only for {known}; "
                    "adapt(..., unknown='nearest', 'compose' or 'base') answers without"
                )
            found[u] = self._nearest(patterns[u]) if unknown == "nearest" else BASE
        return found

    def values_for(self, site: Site, patterns: Tensor, unknown: Unknown = "error") -> Values | None:
        """The values at a site per pattern, bool (U, M) to (U, ...) by name; None if they change nothing."""
        if site.name in self.still:
            return None
        if self.kind.composed:
            return self._composed(site, ~patterns)
        if unknown == "compose":
            return self._pieced(site, patterns)
        return self._taken(site, self._rows_of(site, self.sets_of(patterns, unknown)))

    def of_set(self, number: int) -> dict[Site, dict[str, Tensor]]:
        """One set's values by site; sites without any are left out."""
        out = {}
        for site in self.sites:
            row = int(self.rows[site.name][number])
            if row != BASE:
                out[site] = {name: value[row] for name, value in self.at(site).items()}
        return out

    def count(self, number: int) -> int:
        """Learned numbers of one set."""
        total = 0
        for site in self.sites:
            row = int(self.rows[site.name][number])
            if row != BASE and site.name not in self.still:
                mask = self.mask(site)
                total += sum(v[row].numel() if mask is None else int(mask[row].sum()) for v in self.raw(site).values())
        return total

    def _begun(self, site: Site, sets: int, draw: torch.Generator) -> nn.ParameterDict:
        like = site.like
        kind = like.dtype if like.dtype == torch.float64 else torch.float32
        out = nn.ParameterDict()
        for name, shape in self.form.shapes(site).items():
            values = [self.form.begin(name, shape, draw) for _ in range(sets)]
            stacked = torch.stack(values) if values else torch.zeros(0, *shape)
            out[name] = nn.Parameter(stacked.to(like.device, kind), requires_grad=bool(sets))
        return out

    def _rows_of(self, site: Site, sets: Tensor) -> Tensor:
        """The rows of sets among the values of a site; BASE where it has none."""
        rows = torch.cat([self.rows[site.name], torch.tensor([BASE])]).to(sets.device)
        return rows[sets]  # BASE finds the last one

    def _taken(self, site: Site, rows: Tensor) -> Values | None:
        """Rows of a site's values, zeros for BASE."""
        if (rows == BASE).all():
            return None
        values = self.at(site)
        if len(rows) == 1:
            row = int(rows[0])
            return {name: value[row : row + 1] for name, value in values.items()}
        return {name: _with_nothing(value).index_select(0, rows + 1) for name, value in values.items()}

    def _composed(self, site: Site, absent: Tensor) -> Values | None:
        """From the sets of the absent modalities."""
        rows = self.rows[site.name].to(absent.device)
        absent = absent & (rows != BASE)
        if not absent.any():
            return None
        some = rows[rows != BASE]
        values = {name: value.index_select(0, some) for name, value in self.at(site).items()}
        return self.form.compose(values, absent[:, rows != BASE])

    def _pieced(self, site: Site, patterns: Tensor) -> Values | None:
        """Patterns without a set from those where one modality is absent; raises `UserError` if one has no set."""
        sets = self.sets_of(patterns, "base")
        own = self._taken(site, self._rows_of(site, sets))
        strange = (sets == BASE) & ~patterns.all(dim=1)
        if not strange.any():
            return own
        absent = ~patterns[strange]
        gone = absent.any(dim=0)
        singles = self._rows_of(site, self._singles(gone))
        values = {name: _with_nothing(value).index_select(0, singles + 1) for name, value in self.at(site).items()}
        made = self.form.compose(values, absent[:, gone])
        place = strange.nonzero()[:, 0]
        whole = own or {name: value.new_zeros(len(patterns), *value.shape[1:]) for name, value in made.items()}
        return {name: value.expand(len(patterns), -1).index_copy(0, place, made[name]) for name, value in whole.items()}

    def _singles(self, gone: Tensor) -> Tensor:
        """The sets where one modality is absent, of each that `gone`, bool (M,), says."""
        alone = ~torch.eye(len(self.names), dtype=torch.bool, device=gone.device)[gone]
        found = self.sets_of(alone, "base")
        for pattern, number in zip(alone.tolist(), found.tolist(), strict=True):
            if number == BASE:
                raise UserError(
                    f"unknown='compose' needs adapters for {pattern_name(self.names, pattern)!r}, "
                    f"and there are only some for {', '.join(self.set_names) or 'none'}"
                )
        return found

    def _nearest(self, pattern: Tensor) -> int:
        """The set that differs in the fewest modalities, one that has more before one that has less."""
        differ = (self.sets.to(pattern.device) != pattern).sum(dim=1)
        lacks = (pattern & ~self.sets.to(pattern.device)).sum(dim=1)
        if not len(differ):
            return BASE
        return int((differ * (len(self.names) + 1) + lacks).argmin())


def _with_nothing(values: Tensor) -> Tensor:
    """(S, ...) -> (1 + S, ...): zeros before them."""
    return torch.cat([torch.zeros_like(values[:1]) if len(values) else values.new_zeros(1, *values.shape[1:]), values])


class _Mask(nn.Module):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.mask: Tensor

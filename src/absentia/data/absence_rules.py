"""What a mask plan is asked for: a mechanism with rates, for one split. Declared and checked, not drawn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from absentia.data.absence_counted import chances, left_of
from absentia.data.schema import pattern_name
from absentia.errors import UserError, nearest

__all__ = ["Rule", "Shares", "parse_pattern"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Shares = dict[tuple[bool, ...], float]
"""The share of rows that each pattern is to get; a pattern says which modalities remain."""

RATES = ("p_absent", "p_incomplete", "patterns", "counted")
MECHANISMS = ("mcar", "mar", "mnar")
NOTHING = pattern_name((), ())
STRONGEST = 20  # log-odds for one standard deviation: beyond, chance has no part in it
MOST_SPELLED_OUT = 10  # modalities: beyond, "every pattern evenly" is more than a thousand patterns


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How modalities become absent in one split, whole modalities at a time. Give exactly one kind of rate:

    p_absent: {modality: share of rows without it}; drawn independently, given that something remains.
    p_incomplete: share of rows that lack anything. What remains of those follows `composition`, {pattern:
        weight}, by default every proper pattern evenly.
    patterns: {pattern: weight} over all rows. A pattern names what remains, like "image+text".
    counted: {modality: chance that it is dropped}, each on its own and again where nothing is left, but in counts: of N
        entities the whole part of N times its chance get each pattern, 1 at least, and the rest are drawn (PASSION).
        Which entities these are depends on all that are there.

    mechanism: "mcar" (chance alone), "mar" (depends on an observed column) or "mnar" (on what gets hidden).
    depends_on: for mar the column; for mnar {modality: a column inside it, or a summary of it}.
    strength: how clearly. Where the value is higher by one standard deviation (of its rank-normal score),
        the log-odds that the modality is absent, the rest of the row being equal, are higher by `strength`: 0.5 is
        weak, 1 clear, 2 strong; below 0 low values get lost. The asked rates hold all the same.
    allow_empty: rows may lose everything.

    >>> Rule(p_incomplete=0.7, composition={"image": 1, "text": 1}).mechanism
    'mcar'
    """

    mechanism: Literal["mcar", "mar", "mnar"] = "mcar"
    p_absent: dict[str, float] | None = None
    p_incomplete: float | None = None
    composition: dict[str, float] | None = None
    patterns: dict[str, float] | None = None
    counted: dict[str, float] | None = None
    depends_on: str | dict[str, str] | None = None
    strength: float = 1.0
    allow_empty: bool = False

    def __post_init__(self) -> None:
        if self.mechanism not in MECHANISMS:
            raise UserError(f"unknown mechanism {self.mechanism!r}; {nearest(self.mechanism, MECHANISMS)}")
        self._check_rates()
        self._check_dependence()

    def columns(self) -> tuple[str, ...]:
        """The columns whose values have to be known when the plan is drawn."""
        if isinstance(self.depends_on, str):
            return (self.depends_on,)
        return tuple(dict.fromkeys((self.depends_on or {}).values()))

    def each(self, modalities: Sequence[str]) -> Floats | None:
        """The asked share of rows without each modality (M,), or None where the rule speaks of patterns.

        Raises `UserError` for an unknown modality, and for rates that would leave rows with nothing.
        """
        if self.p_absent is None:
            return None
        for name in self.p_absent:
            _known(name, modalities)
        rates = np.asarray([float(self.p_absent.get(name, 0.0)) for name in modalities])
        remaining = math.fsum(1 - rates)
        if not self.allow_empty and remaining < 1 - 1e-9:
            raise UserError(
                f"p_absent leaves {remaining:.3g} modalities to an average row, but each keeps at least one: "
                "lower the rates until what they leave (1 - p, added up) is at least 1, or set allow_empty"
            )
        return rates

    def shares(self, modalities: Sequence[str]) -> Shares | None:
        """The asked share of each pattern, or None where the rule speaks of single modalities.

        Raises `UserError` for an unknown modality and for patterns that cannot be.
        """
        if self.patterns is not None:
            return self._weights(self.patterns, modalities)
        if self.counted is not None:
            patterns = _all_but_nothing(modalities)
            found = chances(self.dropped(modalities), patterns)
            return {p: chance / math.fsum(found) for p, chance in zip(patterns, found, strict=True) if chance}
        if self.p_incomplete is None:
            return None
        shares: Shares = {(True,) * len(modalities): 1 - self.p_incomplete}
        rest = self._composition(modalities) if self.p_incomplete else {}
        shares |= {pattern: share * self.p_incomplete for pattern, share in rest.items()}
        return {pattern: share for pattern, share in shares.items() if share > 0}

    def dropped(self, modalities: Sequence[str]) -> list[float]:
        """The chance that each modality of a rule in counts is dropped (M,), before anything is drawn again."""
        for name in self.counted or {}:
            _known(name, modalities)
        rates = {name: float((self.counted or {}).get(name, 0.0)) for name in modalities}
        left_of(rates)  # refuses rates that leave nothing
        return list(rates.values())

    def asked(self, modalities: Sequence[str]) -> dict[str, Any]:
        """The rates this rule settles: `p_absent`, `p_incomplete`, `patterns`; None for what it leaves open."""
        shares, each = self.shares(modalities), self.each(modalities)
        if shares is None:
            assert each is not None
            p_absent = dict(zip(modalities, each.tolist(), strict=True))
            return {"p_absent": p_absent, "p_incomplete": None, "patterns": None}
        absent = {name: math.fsum(s for p, s in shares.items() if not p[m]) for m, name in enumerate(modalities)}
        incomplete = math.fsum(s for pattern, s in shares.items() if not all(pattern))
        named = {pattern_name(modalities, pattern): share for pattern, share in shares.items()}
        return {"p_absent": absent, "p_incomplete": incomplete, "patterns": named}

    def to_json(self) -> dict[str, Any]:
        """The fields that are set, as JSON."""
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.mechanism == "mcar":
            del state["strength"]
        return {key: value for key, value in state.items() if value is not None}

    def _check_rates(self) -> None:
        given = [name for name in RATES if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise UserError(f"a rule has exactly one of {', '.join(RATES)}; got {got}")
        if self.composition is not None and self.p_incomplete is None:
            raise UserError("composition says what remains of incomplete rows; it needs p_incomplete beside it")
        for name, rate in (self.p_absent or {}).items():
            _probability(rate, f"p_absent of {name!r}")
        for name, rate in (self.counted or {}).items():
            _probability(rate, f"the rate of {name!r}")
        if self.counted is not None and (self.mechanism != "mcar" or self.allow_empty):
            raise UserError("a rule in counts is mcar and leaves every row something; leave mechanism and allow_empty")
        if self.p_incomplete is not None:
            _probability(self.p_incomplete, "p_incomplete")
        for where in ("composition", "patterns"):
            if getattr(self, where) is not None:
                _positive(getattr(self, where), where)

    def _check_dependence(self) -> None:
        if not abs(self.strength) <= STRONGEST:
            raise UserError(f"strength is {self.strength}; it lies between -{STRONGEST} and {STRONGEST}")
        if self.mechanism == "mcar" and self.depends_on is not None:
            raise UserError("mcar depends on nothing; choose mechanism mar or mnar, or leave depends_on out")
        if self.mechanism == "mar" and not isinstance(self.depends_on, str):
            raise UserError("mar needs depends_on: the name of the observed column that absence depends on")
        if self.mechanism == "mnar" and not isinstance(self.depends_on, Mapping):
            raise UserError("mnar needs depends_on: {modality: the column inside it that its absence depends on}")

    def _composition(self, modalities: Sequence[str]) -> Shares:
        full = (True,) * len(modalities)
        if self.composition is not None:
            shares = self._weights(self.composition, modalities)
            if full in shares:
                name = pattern_name(modalities, full)
                raise UserError(f"composition says what remains of incomplete rows, but {name!r} is complete")
            return shares
        if len(modalities) > MOST_SPELLED_OUT:
            raise UserError(f"{len(modalities)} modalities have too many patterns to draw; give a composition")
        every = [p for p in itertools.product((True, False), repeat=len(modalities)) if p != full]
        allowed = [p for p in every if self.allow_empty or any(p)]
        if not allowed:
            name = modalities[0]
            raise UserError(f"{name!r} is the only modality: an incomplete row has nothing; set allow_empty")
        return dict.fromkeys(allowed, 1 / len(allowed))

    def _weights(self, weights: Mapping[str, float], modalities: Sequence[str]) -> Shares:
        total = math.fsum(weights.values())
        shares: Shares = {}
        for name, weight in weights.items():
            pattern = parse_pattern(name, modalities)
            if not any(pattern) and weight and not self.allow_empty:
                raise UserError(f"pattern {name!r} leaves rows with nothing; set allow_empty if that is meant")
            shares[pattern] = shares.get(pattern, 0.0) + weight / total
        return {pattern: share for pattern, share in shares.items() if share > 0}


def parse_pattern(name: str, modalities: Sequence[str]) -> tuple[bool, ...]:
    """Which modalities the pattern `name` keeps; order does not matter.

    >>> parse_pattern("text+image", ("image", "sound", "text"))
    (True, False, True)
    """
    if name == NOTHING:
        return (False,) * len(modalities)
    parts = [part.strip() for part in str(name).split("+")]
    for part in parts:
        if part not in modalities:
            raise UserError(f"pattern {name!r}: unknown modality {part!r}; {nearest(part, modalities)}")
    if len(set(parts)) < len(parts):
        raise UserError(f"pattern {name!r} names a modality twice")
    return tuple(modality in parts for modality in modalities)


def _all_but_nothing(modalities: Sequence[str]) -> list[tuple[bool, ...]]:
    if len(modalities) > MOST_SPELLED_OUT:
        raise UserError(f"{len(modalities)} modalities have too many patterns to count; leave the counts to chance")
    return [p for p in itertools.product((True, False), repeat=len(modalities)) if any(p)]


def _known(name: str, modalities: Sequence[str]) -> str:
    if name not in modalities:
        raise UserError(f"unknown modality {name!r}; {nearest(name, modalities)}")
    return name


def _probability(value: float, what: str) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"{what} is {value}; a share lies between 0 and 1")


def _positive(weights: Mapping[str, float], what: str) -> None:
    for name, weight in weights.items():
        if not (0 <= weight < math.inf):
            raise UserError(f"{what}: the weight of {name!r} is {weight}; a weight is a number from 0 up")
    if not sum(weights.values()):
        raise UserError(f"{what} has no weight above 0")

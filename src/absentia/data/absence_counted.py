"""Masks in exact numbers: as many entities of each pattern as are expected, and only what is left over by chance.

PASSION (Shi et al., ACM MM 2024) draws its imbalanced sets in this way: with independent draws, a pattern that two of
219 subjects should have is as often there not at all, and rates stray by several subjects from table to table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from absentia.errors import UserError

__all__ = ["chances", "counts", "left_of"]

Pattern = tuple[bool, ...]

NEARLY, DIGITS = 1e-6, 12  # a product of decimals may fall that far below a whole number, or below an equal one


def left_of(rates: Mapping[str, float]) -> dict[str, float]:
    """The share of rows without each modality, where draws with nothing left are repeated: (p - prod p) / (1 - prod p).

    rates: the chance that each one is dropped. Raises `UserError` where all of them are 1.
    """
    nothing = math.prod(rates.values())
    if nothing == 1:
        raise UserError("every modality is dropped with probability 1, and one has to be left")
    return {name: (rate - nothing) / (1 - nothing) for name, rate in rates.items()}


def chances(rates: Sequence[float], patterns: Sequence[Pattern]) -> list[float]:
    """The chance of each pattern before anything is drawn again, when each modality is dropped at its own rate."""
    return [
        math.prod(1 - rate if there else rate for rate, there in zip(rates, pattern, strict=True))
        for pattern in patterns
    ]


def counts(size: int, rates: Sequence[float], patterns: Sequence[Pattern]) -> list[int]:
    """Of `size` entities how many get each pattern for sure: the whole part of what is expected, but 1 at least.

    patterns: those that can be. Where they ask for more than there are, the least expected ones go without.
    """
    chance = [round(p, DIGITS) for p in chances(rates, patterns)]
    out, free = [0] * len(patterns), size
    for place in sorted(range(len(patterns)), key=lambda i: (-chance[i], patterns[i])):
        out[place] = min(free, max(1, math.floor(size * chance[place] + NEARLY)))
        free -= out[place]
    return out

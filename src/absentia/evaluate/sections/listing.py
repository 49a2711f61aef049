"""How a long list stays short on the page: the first rows, and a word on how many more there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["MOST_ROWS", "Listing", "listed"]

MOST_ROWS = 40


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Rows to show and how many more there are."""

    rows: list[Any]
    left: int = 0


def listed(rows: Iterable[Any], most: int = MOST_ROWS) -> Listing:
    """The first `most` rows."""
    everything = list(rows)
    return Listing(rows=everything[:most], left=max(0, len(everything) - most))

"""The rates of presence tables, counted: what a plan came to, with and without the table's own holes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from absentia.data.schema import pattern_name

__all__ = ["beside_nature", "rates"]

Bools = npt.NDArray[np.bool_]


def rates(present: Bools, modalities: Sequence[str]) -> dict[str, Any]:
    """`p_absent` by modality, `p_incomplete`, `patterns` (shares, the largest first) of presence (n, M)."""
    n = max(len(present), 1)
    kinds, counts = np.unique(np.packbits(present, axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    patterns = np.unpackbits(kinds[order], axis=1, count=len(modalities)).astype(bool).tolist()
    shares = (counts[order] / n).tolist()
    return {
        "p_absent": dict(zip(modalities, ((~present).sum(axis=0) / n).tolist(), strict=True)),
        "p_incomplete": float((~present.all(axis=1)).sum() / n),
        "patterns": {pattern_name(modalities, p): share for p, share in zip(patterns, shares, strict=True)},
    }


def beside_nature(presence: Bools, keep: Bools, modalities: Sequence[str]) -> dict[str, Any]:
    """What a table lacked before the plan (`natural`) and lacks with it (`together`); both inputs (n, M).

    emptied: rows that had something of which the plan keeps nothing.
    """
    left = presence & keep
    return {
        "rows": len(presence),
        "natural": rates(presence, modalities),
        "together": rates(left, modalities),
        "emptied": int((presence.any(axis=1) & ~left.any(axis=1)).sum()),
    }

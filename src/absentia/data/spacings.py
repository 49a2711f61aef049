"""How large the voxels are that a run learned from, and whose voxels are not like any of those."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from absentia.data.dense_rows import DenseRows
from absentia.data.rows import Rows

__all__ = ["Spacing", "of_rows", "unlike"]

Spacing = tuple[float, ...]
"""Millimetres along each axis."""

FAR = 0.05  # share of its length by which a side may differ
NAMED = 5  # subjects, and spacings of training, that a note lists


def of_rows(rows: Rows) -> list[Spacing]:
    """The different spacings of rows with volumes or planes, sorted; none of other rows."""
    if not isinstance(rows, DenseRows):
        return []
    return sorted({tuple(float(f"{side:.4g}") for side in spacing) for _, spacing in rows.spacings()})


def unlike(named: Iterable[tuple[str, Spacing]], seen: Sequence[Sequence[float]]) -> list[str]:
    """A note about the subjects whose spacing is far from all that were `seen`; none where nothing was."""
    far = {name: spacing for name, spacing in named if seen and all(_far(spacing, other) for other in seen)}
    if not far:
        return []
    listed = ", ".join(f"{name} ({_by(spacing)})" for name, spacing in list(far.items())[:NAMED])
    more = f" and {len(far) - NAMED:,} more" if len(far) > NAMED else ""
    known = " or ".join(_by(spacing) for spacing in seen[:NAMED]) + (" and others" if len(seen) > NAMED else "")
    return [
        f"Voxels of another size than in training, where they had {known}: {listed}{more}. What is as large for the "
        "network is not as large in mm; resample them, or take their answers with care."
    ]


def _far(one: Sequence[float], other: Sequence[float]) -> bool:
    return any(abs(a - b) > FAR * b for a, b in zip(one, other, strict=False))


def _by(spacing: Sequence[float]) -> str:
    return " x ".join(f"{side:.3g}" for side in spacing) + " mm"

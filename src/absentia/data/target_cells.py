"""The cells of a target as a walk over a table takes them along: of masks only what tells them apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from absentia.data.schema import Target
from absentia.data.table import Table

__all__ = ["mask_cells", "target_cells"]


def target_cells(chunk: pa.Table, target: Target, table: Table) -> list[Any]:
    """Of each row its value, numbers of classes by their names; of masks a mark instead of the mask."""
    if target.kind == "mask":
        return [_marks(cells) for cells in mask_cells(chunk, target)]
    cells: list[Any] = chunk.column(target.column).to_pylist()
    names = table.class_names.get(target.column)
    if not names:
        return cells
    return [None if c is None or c < 0 else names[c] for c in cells]


def mask_cells(chunk: pa.Table, target: Target) -> list[tuple[Any, ...]]:
    """Of each row the cells of a mask, one per column."""
    return list(zip(*(chunk.column(column).to_pylist() for column in target.columns), strict=True))


def _marks(cells: Sequence[Any]) -> str | None:
    """What tells masks from each other without keeping them; None where a column has none."""
    if any(c is None or (isinstance(c, dict) and set(c.values()) == {None}) for c in cells):
        return None
    contents = (c if isinstance(c, bytes) else repr(c).encode() for c in cells)
    return " ".join(hashlib.sha256(content).hexdigest() for content in contents)

"""What the masks of a table hold: rows with each label, empty ones, and those that cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from absentia.data.inspect_target import TargetSummary
from absentia.data.masks import MaskReader
from absentia.data.schema import Target
from absentia.data.table import Table
from absentia.errors import BadCell

__all__ = ["inspect_masks"]

ROWS = 16  # looked at together
EMPTY = "empty"


def inspect_masks(table: Table, target: Target, *, decode: bool) -> tuple[TargetSummary, list[tuple[int, str, str]]]:
    """Rows by label (or by column, where there are several), and (row, column, reason) of what cannot be read."""
    reader, counts, bad = MaskReader(target, table.root), Counter[str](), []
    rows = known = 0
    for chunk in table.chunks(ROWS):
        cells = zip(*(chunk.column(column).to_pylist() for column in target.columns), strict=True)
        for row, mask in enumerate(cells, rows):
            if None in mask:
                continue
            known += 1
            try:
                counts.update(_held(reader, mask) if decode else ())
            except BadCell as error:
                bad.append((row, error.column or target.columns[0], error.reason))
        rows += chunk.num_rows
    classes = {name: counts[name] for name in sorted(counts, key=lambda n: (n == EMPTY, len(n), n))}
    return TargetSummary(column=target.column, kind="mask", known=known, unknown=rows - known, classes=classes), bad


def _held(reader: MaskReader, cells: tuple[object, ...]) -> Iterator[str]:
    grids = reader.labels(cells)
    names = reader.target.columns
    held = [names[k] for k, grid in enumerate(grids) if grid.voxels.any()]
    if len(grids) == 1:
        held = [f"label {label}" for label in np.unique(grids[0].voxels).tolist() if label]
    yield from held or [EMPTY]

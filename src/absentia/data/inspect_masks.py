"""What the masks of a table hold: rows with each label, empty ones, and those that cannot be read or lie elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from absentia.data.inspect_target import TargetSummary
from absentia.data.kinds.base import Array
from absentia.data.kinds.grids import differs
from absentia.data.masks import MaskReader
from absentia.data.schema import Target
from absentia.data.table import Table
from absentia.errors import BadCell

__all__ = ["Grids", "inspect_masks"]

Space = tuple[tuple[int, ...], Array]
Bad = tuple[int, str, str]

ROWS = 16  # looked at together
EMPTY = "empty"


@dataclass
class Grids:
    """Where the contrasts and the mask of each row lie; places: by row, with the column that said it."""

    places: dict[int, tuple[str, Space]] = field(default_factory=dict)
    masks: dict[int, Space] = field(default_factory=dict)

    def check(self, row: int, column: str, space: Space) -> None:
        """Raise `BadCell` where a cell does not lie where the first one of its row does."""
        first, place = self.places.setdefault(row, (column, space))
        wrong = differs(space, place)
        if wrong:
            raise BadCell(f"does not lie on the grid of {first!r}: {wrong}")

    def wrong_masks(self, target: Target) -> Iterator[Bad]:
        """Masks that lie elsewhere than the contrasts that were read."""
        for row, space in self.masks.items():
            try:
                self.check(row, target.column, space)
            except BadCell as error:
                yield row, target.columns[0], error.reason


def inspect_masks(table: Table, target: Target, grids: Grids, *, decode: bool) -> tuple[TargetSummary, list[Bad]]:
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
                counts.update(_held(reader, mask, partial(grids.masks.__setitem__, row)) if decode else ())
            except BadCell as error:
                bad.append((row, error.column or target.columns[0], error.reason))
        rows += chunk.num_rows
    classes = {name: counts[name] for name in sorted(counts, key=lambda n: (n == EMPTY, len(n), n))}
    return TargetSummary(column=target.column, kind="mask", known=known, unknown=rows - known, classes=classes), bad


def _held(reader: MaskReader, cells: tuple[object, ...], place: Callable[[Space], None]) -> Iterator[str]:
    grids = reader.labels(cells)
    place((grids[0].space, grids[0].affine))
    names = reader.target.columns
    held = [names[k] for k, grid in enumerate(grids) if grid.voxels.any()]
    if len(grids) == 1:
        held = [f"label {label}" for label in np.unique(grids[0].voxels).tolist() if label]
    yield from held or [EMPTY]

"""The mask of a row: labels or several columns as regions, and what all training masks say together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from absentia.data.kinds.base import Array
from absentia.data.kinds.grids import NIFTI, Grid, differs, read_grid
from absentia.data.schema import Target
from absentia.data.sniff import image_format, volume_format
from absentia.errors import BadCell, UserError, nearest

__all__ = ["MaskReader", "fitted_masks", "looks_like_mask"]

LARGEST = 65_535  # a label; masks hold few and small numbers
MOST = 50  # labels that become regions of their own; more of them are grey values


@dataclass(frozen=True)
class MaskReader:
    """Reads masks of a fitted target.  root: the folder that relative paths start from."""

    target: Target
    root: Path | None = None

    def read(self, cells: Sequence[Any]) -> Grid:
        """Regions (K, *space), bool, in the order of the target's classes; cells as the target has columns."""
        return self.regions(self.labels(cells))

    def strays(self, grids: Sequence[Grid]) -> list[int]:
        """Labels that are in no region."""
        if len(grids) > 1:
            return []
        known = {0, *(label for labels in self.target.masks.regions.values() for label in labels)}
        found = np.flatnonzero(np.bincount(grids[0].voxels.ravel()))
        return [label for label in found.tolist() if label not in known]

    def regions(self, grids: Sequence[Grid]) -> Grid:
        """Regions of what `labels` read."""
        if len(grids) > 1:
            return Grid(np.stack([grid.voxels > 0 for grid in grids]), grids[0].affine)
        labels, regions = grids[0].voxels, self.target.masks.regions
        return Grid(np.stack([np.isin(labels, regions[name]) for name in self.target.classes]), grids[0].affine)

    def labels(self, cells: Sequence[Any]) -> list[Grid]:
        """Labels (*space) of each column, which lie on one grid."""
        grids = [_labels(cell, self.root) for cell in cells]
        for column, grid in zip(self.target.columns[1:], grids[1:], strict=True):
            wrong = differs((grid.space, grid.affine), (grids[0].space, grids[0].affine))
            if wrong:
                raise BadCell(f"{wrong} as in {self.target.columns[0]!r}", column=column)
        return grids


def fitted_masks(target: Target, rows: Iterable[Sequence[Any]], root: Path | None) -> tuple[Target, tuple[float, ...]]:
    """The target with its regions, and the share of all voxels that each has; unreadable masks are passed over.

    rows: of each training row its cells, one per column of the target.
    """
    counts = np.zeros((len(target.columns), LARGEST + 1), dtype=np.int64)
    for cells in rows:
        try:
            grids = [_labels(cell, root) for cell in cells]
        except BadCell:
            continue
        for column, grid in enumerate(grids):
            counts[column] += np.bincount(grid.voxels.ravel(), minlength=LARGEST + 1)
    if not counts.sum():
        raise UserError(f"target {target.column!r}: no mask of a training row can be read")
    if not counts[:, 1:].sum():
        raise UserError(f"target {target.column!r}: every training mask is empty")
    return _by_column(target, counts) if len(target.columns) > 1 else _by_label(target, counts[0])


def looks_like_mask(cell: Any) -> bool:
    """Whether a target's cell holds a volume or a picture."""
    if isinstance(cell, dict):
        cell = cell["bytes"] if cell.get("bytes") is not None else cell.get("path")
    if isinstance(cell, bytes):
        return volume_format(cell) is not None or image_format(cell) is not None
    return isinstance(cell, str) and cell.lower().endswith((*NIFTI, ".png"))


def _by_column(target: Target, counts: npt.NDArray[np.int64]) -> tuple[Target, tuple[float, ...]]:
    if target.masks.regions:
        raise UserError("masks.regions groups the labels of one column; several columns are regions by themselves")
    shares = counts[:, 1:].sum(axis=1) / counts.sum(axis=1)
    return _with(target, {name: [1] for name in target.columns}), tuple(shares.tolist())


def _by_label(target: Target, counts: npt.NDArray[np.int64]) -> tuple[Target, tuple[float, ...]]:
    found = [int(label) for label in np.flatnonzero(counts) if label]
    regions = target.masks.regions or _default(target, found)
    shares = [counts[np.asarray(labels)].sum() / counts.sum() for labels in regions.values()]
    nobody = [name for name, share in zip(regions, shares, strict=True) if not share]
    if nobody:
        raise UserError(f"masks.regions.{nobody[0]}: no training mask has one of its labels; found: {found[:MOST]}")
    return _with(target, regions), tuple(float(share) for share in shares)


def _default(target: Target, found: list[int]) -> dict[str, list[int]]:
    """One region for a binary mask, else one for each label."""
    if len(found) > MOST:
        raise UserError(
            f"target {target.column!r}: its masks hold {len(found)} different labels, as a picture does; "
            "say which make a region with masks.regions"
        )
    return {target.column: found} if len(found) == 1 else {str(label): [label] for label in found}


def _with(target: Target, regions: dict[str, list[int]]) -> Target:
    for name in target.masks.fewest:
        if name not in regions:
            raise UserError(f"masks.fewest {name!r}: {nearest(name, regions)}")
    return replace(target, classes=tuple(regions), masks=replace(target.masks, regions=dict(regions)))


def _labels(cell: Any, root: Path | None) -> Grid:
    """Labels from 0 up, uint16."""
    grid = read_grid(cell, root)
    if grid.coloured:
        raise BadCell("is a coloured picture; a mask has one number per voxel")
    return replace(grid, voxels=_whole(grid.voxels))


def _whole(voxels: Array) -> Array:
    if voxels.min() < 0 or voxels.max() > LARGEST:
        raise BadCell(f"holds labels from {voxels.min():g} to {voxels.max():g}; they go from 0 to {LARGEST}")
    labels = voxels.astype(np.uint16)
    odd = voxels[labels != voxels]
    if odd.size:
        raise BadCell(f"holds {odd.flat[0]:g}, which is no label: a mask has whole numbers")
    return labels

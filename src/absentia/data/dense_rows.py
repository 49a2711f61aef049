"""Rows whose target is a mask: contrasts and mask of a row lie on one grid, and are cut, read and batched together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from absentia.data.batch import Batch
from absentia.data.crops import Box, Cut, Seen, foreground
from absentia.data.kinds import Value
from absentia.data.kinds.base import Array
from absentia.data.kinds.grids import differs, moved, spacing_of
from absentia.data.masks import MaskReader
from absentia.data.reader import CellReader, Opened
from absentia.data.rows import BadCellRecord, Ints, OnBad, Rows
from absentia.data.target import TargetCodec
from absentia.errors import BadCell, UserError

__all__ = ["DenseRows"]

MASK = ""  # stands where a modality's name would, among kept values
VOXELS = 2**22  # of all contrasts, that are shown at once


@dataclass(frozen=True)
class Place:
    """The grid of a row, and whose it is."""

    space: tuple[int, ...]
    affine: Array
    column: str


@dataclass
class DenseRows(Rows):
    """Rows with volumes or planes.

    target: voxels of each region, int64 (N, K), where masks are known; the masks themselves are read with the batch.
    """

    labelled: bool = False
    _places: dict[int, Place] = field(default_factory=dict, repr=False)
    _boxes: dict[int, Box] = field(default_factory=dict, repr=False)
    _strays: dict[int, str] = field(default_factory=dict, repr=False)
    _moved: dict[str, float] = field(default_factory=dict, repr=False)
    _flat: list[str] = field(default_factory=list, repr=False)

    @property
    def at_once(self) -> int:
        return 4

    def label(self, codec: TargetCodec, cells: Sequence[Any]) -> None:
        self.labelled = True
        self.target = np.zeros((len(self), codec.target.size), dtype=np.int64)

    def remarks(self) -> list[str]:
        """Labels in no region, and rows whose cells begin elsewhere."""
        said = []
        if self._strays:
            label, where = next(iter(self._strays.items()))
            listed = ", ".join(map(str, sorted(self._strays)))
            said.append(f"Labels in no region count as background: {listed}; first {label}, in {where}.")
        if self._moved:
            where, far = next(iter(self._moved.items()))
            said.append(
                f"{len(self._moved):,} cells have another origin than their row, the first {where} by {far:.3g} mm; "
                "their voxels were taken as they are counted."
            )
        if self._flat:
            said.append(f"{len(self._flat):,} cells have the same value everywhere and show nothing: {self._flat[0]}.")
        if self.target is not None and len(self) and not self.target.any():
            said.append("Every mask is empty, so that scores only say where nothing is predicted.")
        return said

    def check_steps(self, size: int) -> None:
        """Rows of different sizes need a crop, or a step each; a crop needs a length for every axis, or one."""
        assert self.schema.target is not None
        masks, dims = self.schema.target.masks, next(iter(self.decoders.values())).dims  # type: ignore[attr-defined]
        crop, _ = masks.sides("crop", dims), masks.sides("window", dims)
        if size > 1 and crop is None:
            there = np.flatnonzero(self.presence.any(axis=1)).tolist()
            self._check_equal((self.space(position), position) for position in there)

    def where(self, chosen: npt.NDArray[np.bool_]) -> Rows:
        rows = super().where(chosen)
        assert isinstance(rows, DenseRows)
        places = [(new, self._places.get(old)) for new, old in enumerate(np.flatnonzero(chosen).tolist())]
        rows._places = {new: place for new, place in places if place is not None}
        return rows

    def space(self, position: int) -> tuple[int, ...]:
        """Voxels along each axis; a row with nothing, not even a mask, is one voxel."""
        place = self._places.get(position)
        dims = next(iter(self.decoders.values())).dims if place is None else 0  # type: ignore[attr-defined]
        return (1,) * dims if place is None else place.space

    def affine(self, position: int) -> Array:
        """(4, 4), from voxels to mm; that of one voxel a millimetre for a row without anything."""
        place = self._places.get(position)
        return np.eye(4) if place is None else place.affine

    def spacing(self, position: int) -> tuple[float, ...]:
        """Millimetres along each axis; a plane has a third one."""
        return spacing_of(self.affine(position))

    def spacings(self) -> list[tuple[str, tuple[float, ...]]]:
        """Of each row that lies somewhere, as it is called: millimetres along its own axes."""
        dims = next(iter(self.decoders.values())).dims  # type: ignore[attr-defined]
        return [(self._called(position), self.spacing(position)[:dims]) for position in sorted(self._places)]

    def portions(self, size: int) -> Iterator[Ints]:
        """Neighbouring rows of one size, as many as fit."""
        part: list[int] = []
        for position in range(len(self)):
            space = self.space(position)
            full = len(part) >= max(1, min(size, VOXELS // max(1, math.prod(space) * len(self.schema.names))))
            if part and (full or self.space(part[0]) != space):
                yield np.asarray(part)
                part = []
            part.append(position)
        if part:
            yield np.asarray(part)

    def batch(self, positions: Ints, draw: int | None = None) -> Batch:
        """Whole rows, or what step `draw` sees of them."""
        presence = self.presence[positions]
        values: dict[str, dict[int, Value]] = {}
        for m, name in enumerate(self.schema.names):
            present = positions[presence[:, m]]
            values[name] = dict(zip(present.tolist(), self._get(name, present), strict=True))
        seen = [self._seen(values, position, draw) for position in positions.tolist()]
        spaces = [_space_of(s) or self.space(p) for s, p in zip(seen, positions.tolist(), strict=True)]
        self._check_equal(zip(spaces, positions.tolist(), strict=True))
        found = {name: [s.voxels[name] for s in seen if name in s.voxels] for name in self.schema.names}
        dims = len(seen[0].corner) if seen else 0
        return Batch(
            presence=torch.from_numpy(presence),
            inputs={name: {"voxels": _stacked(parts)} for name, parts in found.items() if parts},
            index=torch.from_numpy(self.index[positions]),
            target=_stacked([s.mask.astype(np.float32) for s in seen if s.mask is not None]) if self.labelled else None,
            memo=self.memo,
            places=torch.from_numpy(positions),
            space=spaces[0] if spaces else (1,) * dims,
            corner=torch.tensor([s.corner for s in seen]) if draw is not None else None,
        )

    # ------------------------------------------------------------------------------------------------ one row

    def _seen(self, values: dict[str, dict[int, Value]], position: int, draw: int | None) -> Seen:
        voxels = {name: found[position]["voxels"] for name, found in values.items() if position in found}
        mask = self._mask(position) if self.labelled else None
        if draw is None or not voxels:
            return Seen(voxels, mask, (0,) * len(self.space(position)))
        if position not in self._boxes:
            self._boxes[position] = foreground(voxels)
        cut = self._cut(len(self.space(position)))
        return cut(voxels, mask, self._boxes[position], draw, int(self.index[position]))

    def _cut(self, dims: int) -> Cut:
        assert self.schema.target is not None
        settings = self.schema.target.masks
        return Cut(settings=settings, sides=settings.sides("crop", dims))

    def _check_equal(self, spaces: Iterable[tuple[tuple[int, ...], int]]) -> None:
        """Raise `UserError` where rows (their sides, their position) that learn together differ."""
        found: dict[tuple[int, ...], int] = {}
        for space, position in spaces:
            found.setdefault(space, position)
        if len(found) > 1:
            named = [f"{' x '.join(map(str, space))} ({self._called(p)})" for space, p in list(found.items())[:2]]
            raise UserError(
                f"rows of a step differ in size, {' and '.join(named)}: say --masks.crop, or --training.batch 1"
            )

    # ------------------------------------------------------------------------------------------- reading them

    def _open(self, reader: CellReader, name: str, position: int, cell: Any) -> Opened:
        """A cell, which must lie where the others of its row do."""
        opened = super()._open(reader, name, position, cell)
        voxels = opened.value["voxels"]
        self._settle(position, voxels.shape[1:], opened.value["affine"], name)
        if not voxels.any():
            self._flat.append(f"{name!r} of {self._called(position)}")
        return opened

    def _settle(self, position: int, space: tuple[int, ...], affine: Array, column: str) -> None:
        place = self._places.setdefault(position, Place(space, affine, column))
        wrong = differs((space, affine), (place.space, place.affine))
        if wrong:
            raise BadCell(f"does not lie on the grid of {place.column!r}: {wrong}")
        far = moved(affine, place.affine)
        if far > min(spacing_of(place.affine)) / 2:
            self._moved[f"{column!r} of {self._called(position)}"] = far

    def _read_all(self, positions: Ints, on_bad: OnBad) -> Iterator[tuple[int, BadCellRecord]]:
        yield from super()._read_all(positions, on_bad)
        if not self.labelled:
            return
        for position in positions.tolist():
            try:
                mask = self._read_mask(position, first=True)
            except BadCell as error:
                policy = "error" if on_bad == "error" else "skip"  # a row without its mask teaches and says nothing
                yield position, self._record(self._target_columns[0], position, error, policy)
                continue
            assert self.target is not None
            self.target[position] = mask.reshape(len(mask), -1).sum(axis=1)
            if self.keep > 0:
                self.keep -= mask.nbytes + 300
                self._values[MASK, position] = {"mask": mask}

    def _mask(self, position: int) -> Array:
        """Regions (K, *space), bool."""
        kept = self._values.get((MASK, position))
        if kept is not None:
            return kept["mask"]
        try:
            return self._read_mask(position)
        except BadCell as error:
            record = self._record(self._target_columns[0], position, error, "error")
            raise UserError(f"{record}; it could be read at first, so the table or its files have changed") from None

    def _read_mask(self, position: int, *, first: bool = False) -> Array:
        assert self.schema.target is not None
        chunk = self.take(self.index[position : position + 1])
        cells = [chunk.column(column).to_pylist()[0] for column in self._target_columns]
        reader = MaskReader(self.schema.target, self.root)
        labels = reader.labels(cells)
        grid = reader.regions(labels)
        self._settle(position, grid.voxels.shape[1:], grid.affine, self.schema.target.column)
        for stray in reader.strays(labels) if first else []:
            self._strays.setdefault(stray, self._called(position))
        return grid.voxels

    def _called(self, position: int) -> str:
        return self.ids[position] if self.schema.id else f"row {self.first + int(self.index[position])}"

    @property
    def _target_columns(self) -> tuple[str, ...]:
        assert self.schema.target is not None
        return self.schema.target.columns

    def _record(self, name: str, position: int, error: BadCell, became: str) -> BadCellRecord:
        record = super()._record(name, position, error, became)
        return replace(record, reason=f"{record.reason} (of {self.ids[position]})") if self.schema.id else record


def _stacked(parts: Sequence[Array]) -> torch.Tensor:
    return torch.from_numpy(np.stack(parts)) if parts else torch.zeros(0)


def _space_of(seen: Seen) -> tuple[int, ...]:
    parts = [*seen.voxels.values(), *([] if seen.mask is None else [seen.mask])]
    return parts[0].shape[1:] if parts else ()

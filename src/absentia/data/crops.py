"""Where a training step looks at a row, and how it is mirrored and dimmed: functions of (draw, row) alone."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from absentia.data.kinds.base import Array
from absentia.data.segmentation import Masks

__all__ = ["Cut", "Seen", "foreground"]

Box = npt.NDArray[np.int64]
"""First voxels, and those behind the last ones: (2, dims)."""


@dataclass(frozen=True)
class Seen:
    """What a step sees of a row: contrasts (C, *space) by name, regions (K, *space) or None, and where it begins."""

    voxels: dict[str, Array]
    mask: Array | None
    corner: tuple[int, ...]


def foreground(voxels: Mapping[str, Array]) -> Box:
    """The box of what is above the lowest value in any of the contrasts that are there: absent ones have no say."""
    space = next(iter(voxels.values())).shape[1:]
    there = np.zeros(space, dtype=np.bool_)
    for x in voxels.values():
        there |= (x > 0).any(axis=0)
    if not there.any():
        return np.asarray([[0] * len(space), space], dtype=np.int64)
    sides = [np.flatnonzero(there.any(axis=tuple(b for b in range(len(space)) if b != a))) for a in range(len(space))]
    return np.asarray([[s[0] for s in sides], [s[-1] + 1 for s in sides]], dtype=np.int64)


@dataclass(frozen=True)
class Cut:
    """Cuts rows as the settings of a mask say.  sides: of a crop; None shows whole rows."""

    settings: Masks
    sides: tuple[int, ...] | None

    def __call__(self, voxels: Mapping[str, Array], mask: Array | None, box: Box, draw: int, row: int) -> Seen:
        """What step `draw` sees of row number `row`, whose foreground is `box`."""
        space = next(iter(voxels.values())).shape[1:]
        noise = np.random.default_rng([draw, row]).random(2 + 2 * len(space))
        corner = self._corner(space, mask, box, noise)
        flipped = [a for a in range(len(space)) if self.settings.flips and noise[2 + len(space) + a] < 0.5]
        seen = {name: self._dimmed(self._part(x, corner, flipped), name, draw, row) for name, x in voxels.items()}
        return Seen(seen, None if mask is None else self._part(mask, corner, flipped), tuple(corner.tolist()))

    def _corner(self, space: tuple[int, ...], mask: Array | None, box: Box, noise: Array) -> npt.NDArray[np.int64]:
        """Within the foreground where that is larger than the crop; some are centred on a voxel of the mask."""
        if self.sides is None:
            return np.zeros(len(space), dtype=np.int64)
        sides, most = np.asarray(self.sides), np.maximum(np.asarray(space) - self.sides, 0)
        marked = np.flatnonzero(mask.any(axis=0)) if mask is not None and noise[0] < self.settings.around else ()
        if len(marked):
            centre = np.asarray(np.unravel_index(marked[int(noise[1] * len(marked))], space))
            return np.asarray(np.clip(centre - sides // 2, 0, most))
        low, high = np.minimum(box[0], box[1] - sides), np.maximum(box[0], box[1] - sides)
        low, high = np.clip(low, 0, most), np.clip(high, 0, most)
        return np.asarray(low + np.floor(noise[2 : 2 + len(space)] * (high - low + 1)).astype(np.int64))

    def _part(self, x: Array, corner: npt.NDArray[np.int64], flipped: list[int]) -> Array:
        """(C, *sides), filled up with 0 where the row is smaller than the crop."""
        if self.sides is not None:
            places = tuple(slice(c, c + side) for c, side in zip(corner, self.sides, strict=True))
            x = x[(slice(None), *places)]
            short = [(0, side - have) for side, have in zip(self.sides, x.shape[1:], strict=True)]
            x = np.pad(x, [(0, 0), *short]) if any(n for _, n in short) else x
        return np.flip(x, axis=tuple(a + 1 for a in flipped)) if flipped else x

    def _dimmed(self, x: Array, name: str, draw: int, row: int) -> Array:
        """Each contrast scaled and shifted by its own chance, where it is above its lowest value."""
        most = self.settings.intensity
        if not most:
            return x
        key: list[Any] = [draw, row, zlib.crc32(name.encode())]
        scale, shift = np.random.default_rng(key).uniform(-most, most, size=2)
        out: Array = np.where(x > 0, x * np.float32(1 + scale) + np.float32(shift), x).astype(np.float32)
        return out

"""Volumes: 3-D images (NIfTI) or aligned planes, of any size; between their percentiles from 0 to 1."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from absentia.data.kinds.base import Array, Decoder, Kind, Value, check_at_least
from absentia.data.kinds.grids import read_grid
from absentia.errors import BadCell, UserError

__all__ = ["Volume", "VolumeDecoder"]

SAMPLE = 8  # training volumes looked at to tell planes from volumes
WHOLE = (0.0, 100.0)


@dataclass(frozen=True)
class Volume(Kind):
    """NIfTI as bytes or paths, planes as pictures, or nested lists of numbers.

    clip: percentiles of the voxels that are not 0; what lies outside is cut, and the rest goes from 0 to 1.
    size: sides that every volume is brought to, one length or one per axis. Leave it out where a mask is the target.
    """

    clip: tuple[float, float] = (1.0, 99.0)
    size: tuple[int, ...] | None = None
    kind: ClassVar[str] = "volume"

    def __post_init__(self) -> None:
        super().__post_init__()
        clip = tuple(self.clip) if isinstance(self.clip, list | tuple) and self.clip else WHOLE
        object.__setattr__(self, "clip", clip)
        if len(clip) != 2 or not all(_is_number(p) for p in clip) or not 0 <= clip[0] < clip[1] <= 100:
            raise UserError(f"volume clip {self.clip!r}: give two percentiles, such as [1, 99]")
        if self.size is not None:
            size = (self.size,) if isinstance(self.size, int) else tuple(self.size)
            object.__setattr__(self, "size", size)
            for side in size:
                check_at_least("volume size", side)

    def fit(self, cells: Iterable[Any], *, root: Path | None = None) -> VolumeDecoder:
        looks = list(itertools.islice(_readable(cells, root), SAMPLE))
        shape = Counter((coloured, space) for coloured, space in looks).most_common(1)
        coloured, space = shape[0][0] if shape else (False, (1, 1, 1))
        if self.size is not None and len(self.size) not in (1, len(space)):
            raise UserError(f"volume size {list(self.size)}: the volumes have {len(space)} axes")
        size = self.size and (self.size * len(space) if len(self.size) == 1 else self.size)
        return VolumeDecoder(space=size or space, channels=3 if coloured else 1, clip=self.clip, size=size, root=root)

    def restore(self, state: dict[str, Any], *, root: Path | None = None) -> VolumeDecoder:
        size = state["size"] and tuple(state["size"])
        return VolumeDecoder(
            space=tuple(state["space"]),
            channels=state["channels"],
            clip=tuple(state["clip"]),
            size=size,
            root=root,
        )


class VolumeDecoder(Decoder):
    """Cells to `{"voxels": float32 (C, *space), "affine": float64 (4, 4)}`, voxels from 0 to 1.

    space: of the usual training volume; others may be of any size with as many axes, unless `size` is set.
    """

    def __init__(
        self,
        *,
        space: tuple[int, ...],
        channels: int,
        clip: tuple[float, float],
        size: tuple[int, ...] | None = None,
        root: Path | None = None,
    ) -> None:
        self.space, self.channels, self.clip, self.size, self.root = space, channels, clip, size, root

    @property
    def dims(self) -> int:
        """2 for planes, 3 for volumes."""
        return len(self.space)

    def decode(self, cell: Any) -> Value:
        grid = read_grid(cell, self.root)
        voxels = grid.voxels if grid.coloured else grid.voxels[None]
        if voxels.ndim - 1 != self.dims:
            raise BadCell(f"has {voxels.ndim - 1} axes, where the others have {self.dims}")
        if len(voxels) != self.channels:
            voxels = np.repeat(voxels.mean(axis=0, keepdims=True), self.channels, axis=0)
        scaled = _scaled(voxels.astype(np.float32), self.clip)
        return {"voxels": _resized(scaled, self.size), "affine": grid.affine}

    def collate(self, values: Sequence[Value]) -> Value:
        spaces = sorted({v["voxels"].shape for v in values})
        if len(spaces) > 1:
            raise UserError(f"volumes differ in size, {spaces[0][1:]} and {spaces[-1][1:]}: give them a size")
        return {"voxels": np.stack([v["voxels"] for v in values])}

    def blank(self) -> Value:
        return {"voxels": np.zeros((self.channels, *self.space), dtype=np.float32)}

    def state(self) -> dict[str, Any]:
        size = self.size and list(self.size)
        return {"space": list(self.space), "channels": self.channels, "clip": list(self.clip), "size": size}


def _scaled(voxels: Array, clip: tuple[float, float]) -> Array:
    """Voxels (C, *space) between two percentiles of those that are not 0, brought to 0..1; zeros stay the lowest."""
    there = voxels[voxels != 0]
    if not there.size:
        return voxels
    low, high = np.percentile(there, clip) if clip != WHOLE else (there.min(), there.max())
    if not high > low:
        return np.zeros_like(voxels)
    out: Array = ((np.clip(voxels, low, high) - low) / (high - low)).astype(np.float32)
    return out


def _resized(voxels: Array, size: tuple[int, ...] | None) -> Array:
    if size is None or voxels.shape[1:] == size:
        return voxels
    import torch
    from torch.nn import functional as F

    mode = "trilinear" if len(size) == 3 else "bilinear"
    out: Array = F.interpolate(torch.from_numpy(voxels)[None], size=size, mode=mode)[0].numpy()
    return out


def _readable(cells: Iterable[Any], root: Path | None) -> Iterator[tuple[bool, tuple[int, ...]]]:
    for cell in cells:
        try:
            grid = read_grid(cell, root)
        except BadCell:
            continue
        yield grid.coloured, grid.space


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

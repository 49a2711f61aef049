"""Voxels from a cell: NIfTI as a path or bytes, a plane as a picture, or nested lists; and where they lie."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from absentia.data.kinds.base import Array, source_of
from absentia.data.kinds.image import read_image
from absentia.errors import BadCell, extra

__all__ = ["NIFTI", "Grid", "differs", "moved", "read_grid", "spacing_of"]

NIFTI = (".nii", ".nii.gz")
GZIP, MAGIC = b"\x1f\x8b", (b"n+1\0", b"n+2\0")
LARGEST = 2**31  # bytes of a volume once it is unpacked; a larger one is a mistake or an attack
EXPECTED = "bytes, a path or nested lists"
MOST = float(np.finfo(np.float32).max) / 4  # of a voxel, so that differences fit too
NEARLY = 1e-3  # mm, and share of a voxel's size
TURNED = 1.0  # degrees; at the edge of a head that is a voxel or two


@dataclass(frozen=True)
class Grid:
    """Voxels (*space), or (C, *space) of a coloured plane, and the affine (4, 4) from their numbers to mm."""

    voxels: Array
    affine: npt.NDArray[np.float64]
    coloured: bool = False

    @property
    def space(self) -> tuple[int, ...]:
        """The sides, in voxels."""
        return self.voxels.shape[1:] if self.coloured else self.voxels.shape

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimetres from voxel to voxel along each axis."""
        return spacing_of(self.affine)


def read_grid(cell: Any, root: Path | None) -> Grid:
    """The voxels of a cell as they were stored; raises `BadCell` for what is no plane and no volume."""
    if isinstance(cell, (list, tuple, np.ndarray)):
        return Grid(_checked(_listed(cell)), np.eye(4))
    source = source_of(cell, root, EXPECTED)
    content = source if isinstance(source, bytes) else _content(source)
    if content[:2] == GZIP:
        content = _unpacked(content)
    if content[4:8] in MAGIC or content[344:348] in MAGIC:
        return _nifti(content)
    if isinstance(source, Path) and source.name.lower().endswith(NIFTI):
        raise BadCell("has the name of a NIfTI file but not its content")
    if isinstance(source, bytes) or _pictured(content):
        return _plane(content)
    raise BadCell(f"is neither NIfTI ({' or '.join(NIFTI)}) nor a picture: {source.name}")


def spacing_of(affine: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Millimetres along each axis of an affine (4, 4)."""
    return tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())


def differs(one: tuple[tuple[int, ...], Array], other: tuple[tuple[int, ...], Array]) -> str | None:
    """How two spaces with their affines differ, in words: shape, spacing or orientation; None where they agree.

    Their origins may differ, for many files have none that means anything; see `moved`.
    """
    (space, affine), (other_space, other_affine) = one, other
    if space != other_space:
        return f"shape {_by(space)}, not {_by(other_space)}"
    spacing, other_spacing = spacing_of(affine), spacing_of(other_affine)
    if not np.allclose(spacing, other_spacing, rtol=NEARLY, atol=NEARLY):
        return f"spacing {_by(spacing)} mm, not {_by(other_spacing)} mm"
    ways, other_ways = _orientation(affine), _orientation(other_affine)
    if ways != other_ways:
        return f"orientation {ways}, not {other_ways}"
    angle = _angle(affine, other_affine)
    return f"orientation turned by {angle:.0f} degrees" if angle > TURNED else None


def moved(one: Array, other: Array) -> float:
    """Millimetres between the first voxels of two affines."""
    return float(np.linalg.norm(one[:3, 3] - other[:3, 3]))


def _angle(one: Array, other: Array) -> float:
    """Degrees between the axes of two affines that are furthest apart."""
    first, second = (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0).clip(1e-12) for affine in (one, other))
    return float(np.degrees(np.arccos((first * second).sum(axis=0).clip(-1, 1))).max())


def _orientation(affine: Array) -> str:
    """Which way each axis runs most: R or L, A or P, S or I."""
    columns = affine[:3, :3]
    main = np.abs(columns).argmax(axis=0)
    return "".join(("LR", "PA", "IS")[m][int(columns[m, axis] > 0)] for axis, m in enumerate(main))


def _nifti(content: bytes) -> Grid:
    with extra("mri", "volumes"):
        from nibabel import Nifti1Image, Nifti2Image
        from nibabel.filebasedimages import ImageFileError
        from nibabel.spatialimages import HeaderDataError
    try:
        image = (Nifti2Image if content[4:8] in MAGIC else Nifti1Image).from_bytes(content)
        voxels = np.asanyarray(image.dataobj)
    except (OSError, ValueError, EOFError, HeaderDataError, ImageFileError) as error:
        raise BadCell(f"is a damaged or truncated volume: {' '.join(str(error).split())}") from None
    if image.affine is None or not np.isfinite(image.affine).all():
        raise BadCell("has an affine that is not finite")
    while voxels.ndim > 3 and voxels.shape[-1] == 1:  # as many programs write a single volume
        voxels = voxels[..., 0]
    return Grid(_checked(voxels), np.asarray(image.affine, dtype=np.float64))


def _plane(content: bytes) -> Grid:
    voxels = np.asarray(read_image(content, None, deep=True))
    if voxels.ndim == 3:
        colours = np.moveaxis(np.asarray(read_image(content, None).convert("RGB")), 2, 0)
        return Grid(colours, np.eye(4), coloured=True)
    return Grid(_checked(voxels), np.eye(4))


def _listed(cell: Any) -> Array:
    try:
        return np.asarray(cell, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise BadCell("holds lists of different lengths, or something that is no number") from None


def _checked(voxels: Array) -> Array:
    if voxels.ndim not in (2, 3):
        raise BadCell(f"has {voxels.ndim} axes ({_by(voxels.shape)}); a plane has 2 and a volume 3")
    if not voxels.size:
        raise BadCell(f"has no voxels ({_by(voxels.shape)})")
    if voxels.dtype.kind not in "biuf":
        raise BadCell(f"holds voxels of type {voxels.dtype}, not numbers")
    return _finite(voxels)


def _finite(voxels: Array) -> Array:
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise BadCell(f"holds {int((~np.isfinite(voxels)).sum()):,} voxels that are NaN or infinite")
    if max(-float(voxels.min()), float(voxels.max())) > MOST:
        raise BadCell(f"holds voxels from {voxels.min():.4g} to {voxels.max():.4g}, which float32 has no room for")
    return voxels


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadCell(f"the file {path.name} cannot be read: {error.strerror}") from None
    if not content:
        raise BadCell(f"the file {path.name} is empty")
    return content


def _unpacked(content: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            out = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadCell(f"is a truncated or damaged .gz file: {error}") from None
    if len(out) > LARGEST:
        raise BadCell(f"is a huge volume: over {LARGEST:,} bytes")
    return out


def _pictured(content: bytes) -> bool:
    from absentia.data.sniff import image_format

    return image_format(content) is not None


def _by(numbers: tuple[float, ...]) -> str:
    return " x ".join(f"{n:.4g}" if isinstance(n, float) else str(n) for n in numbers)

"""Small pictures of planes, and of one slice of volumes, as they are embedded in a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from absentia.data.kinds.base import Array

__all__ = ["COLOURS", "Cut", "difference", "hexadecimal", "picture"]

SIDE = 128  # pixels
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66))
OUTLINE = (255, 255, 255)
STRETCHED = 2.0  # differences, so that half the range of brightness is full colour
Bools = npt.NDArray[np.bool_]


class Cut:
    """Of a volume the axial slice with most of a mask (K, *space), upright; a plane as it is."""

    def __init__(self, truth: Bools) -> None:
        self.level = int(truth.any(axis=0).sum(axis=(0, 1)).argmax()) if truth.ndim == 4 else None

    def __call__(self, voxels: Array) -> Array:
        return voxels if self.level is None else np.rot90(voxels[..., self.level])


def picture(ground: Array, regions: Sequence[Array] = (), outline: Sequence[Array] = (), *, truth: bool = False) -> str:
    """A grey slice with regions in colour and outlines in white (those of the regions where they are the truth)."""
    pixels = np.repeat((np.clip(ground, 0, 1) * 255)[..., None], 3, axis=-1)
    for region, colour in zip(regions, COLOURS * len(regions), strict=False):
        pixels[region] = 0.45 * pixels[region] + 0.55 * np.asarray(colour)
    for edge in (r & ~ndimage.binary_erosion(r) for r in (regions if truth else outline)):
        pixels[edge] = OUTLINE
    return _embedded(pixels)


def difference(made: Array, true: Array) -> str:
    """What was made a slice too dark in the first colour and too bright in the second; what is right is black."""
    off = np.clip(STRETCHED * (made - true), -1, 1)[..., None]
    dark, bright = (np.asarray(colour) for colour in COLOURS[:2])
    return _embedded(np.where(off < 0, -off * dark, off * bright))


def hexadecimal(colour: tuple[int, int, int]) -> str:
    """A colour as pages write it."""
    return "#" + "".join(f"{part:02x}" for part in colour)


def _embedded(pixels: Array) -> str:
    """A small JPEG as an address."""
    image = Image.fromarray(np.rint(pixels).astype(np.uint8))
    larger = SIDE / max(image.size)
    image = image.resize((max(1, round(image.width * larger)), max(1, round(image.height * larger))))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()

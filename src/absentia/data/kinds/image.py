"""Images: pillow reads them, one size for all, bytes 0-255 with the channels first."""

from __future__ import annotations

import io
import itertools
import struct
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from absentia.data.kinds.base import Decoder, Kind, Value, check_at_least, source_of
from absentia.errors import BadCell, UserError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["LARGEST", "Image", "ImageDecoder", "read_image"]

LARGEST = 64_000_000  # pixels; a larger picture is a mistake or an attack
SAMPLE = 64  # training images looked at to choose size and channels
STEP = 8  # chosen sizes are multiples of this, so that small patches always fit
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP", "TGA")
"""Formats of pictures people keep in tables; others would run programs (EPS) or hold no picture."""
CORRUPT = (
    *(OSError, SyntaxError, ValueError, EOFError, RuntimeError, LookupError, TypeError, ArithmeticError),
    *(MemoryError, struct.error),
)
"""What pillow's readers raise for damaged bytes."""
FULL_SCALE = {"I": (65535.0,), "F": (1.0, 255.0)}  # white in pictures of 32 bits per pixel, by mode


@dataclass(frozen=True)
class Image(Kind):
    """Pictures as bytes, paths or `{bytes, path}` cells.

    size: side lengths (height, width) or one length for a square; None takes the usual shape of the training
        images, with the longer side at most 64.
    """

    size: int | tuple[int, int] | None = None
    kind: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.size, list):
            object.__setattr__(self, "size", tuple(self.size))
        if self.size is None:
            return
        sides = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        if len(sides) != 2:
            raise UserError(f"image size {self.size!r}: give one length, or height and width")
        for side in sides:
            check_at_least("image size", side, STEP)

    def fit(self, cells: Iterable[Any], *, root: Path | None = None) -> ImageDecoder:
        looks = [(p.height, p.width, p.mode) for p in itertools.islice(_readable(cells, root), SAMPLE)]
        channels = 3 if any(mode == "RGB" for _, _, mode in looks) else 1
        return ImageDecoder(size=_sides(self.size, looks), channels=channels, root=root)

    def restore(self, state: dict[str, Any], *, root: Path | None = None) -> ImageDecoder:
        return ImageDecoder(size=tuple(state["size"]), channels=state["channels"], root=root)


class ImageDecoder(Decoder):
    """Cells to `{"pixels": uint8 (C, H, W)}`."""

    def __init__(self, *, size: tuple[int, int], channels: int, root: Path | None = None) -> None:
        self.size, self.channels, self.root = size, channels, root

    def decode(self, cell: Any) -> Value:
        picture = read_image(cell, self.root).convert("RGB" if self.channels == 3 else "L")
        height, width = self.size
        if picture.size != (width, height):
            picture = picture.resize((width, height))
        pixels = np.asarray(picture, dtype=np.uint8).reshape(height, width, self.channels)
        return {"pixels": np.ascontiguousarray(pixels.transpose(2, 0, 1))}

    def collate(self, values: Sequence[Value]) -> Value:
        return {"pixels": np.stack([v["pixels"] for v in values])}

    def blank(self) -> Value:
        return {"pixels": np.zeros((self.channels, *self.size), dtype=np.uint8)}

    def state(self) -> dict[str, Any]:
        return {"size": list(self.size), "channels": self.channels}


def read_image(cell: Any, root: Path | None, *, deep: bool = False) -> Picture:
    """The picture of a cell, upright: 8 bits deep, grey (mode L) or coloured (RGB), the first one of several.

    What is transparent is laid on white. deep: as it was stored, with all its bits and a palette's numbers.
    Raises `BadCell` when it is corrupt, truncated or huge.
    """
    from PIL import Image as Pillow
    from PIL import ImageOps, UnidentifiedImageError

    source = source_of(cell, root)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pillow's own size warning; ours below is an error
            with Pillow.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as picture:
                _check_size(picture)
                picture.load()
                upright = ImageOps.exif_transpose(picture)
                return upright if deep else _plain(upright)
    except UnidentifiedImageError:
        raise BadCell("is not an image that can be read") from None
    except Pillow.DecompressionBombError:
        raise BadCell(f"is a huge image: over {LARGEST:,} pixels") from None
    except CORRUPT as error:
        raise BadCell(f"is a corrupt image: {error}") from None


def _check_size(picture: Picture) -> None:
    width, height = picture.size
    if width * height > LARGEST:
        raise BadCell(f"is a huge image: {width} x {height} pixels, over {LARGEST:,}")


def _plain(picture: Picture) -> Picture:
    """Any mode as L or RGB."""
    if picture.mode[0] in FULL_SCALE:
        return _shallow(picture)
    mode = "L" if picture.mode in ("1", "L", "LA", "La") else "RGB"
    return (_on_white(picture) if picture.has_transparency_data else picture).convert(mode)


def _on_white(picture: Picture) -> Picture:
    from PIL import Image as Pillow

    paper = Pillow.new("RGBA", picture.size, "white")
    paper.alpha_composite(picture.convert("RGBA"))
    return paper


def _shallow(picture: Picture) -> Picture:
    """16 or 32 bits per pixel as 8, where pillow would cut everything above 255 off.

    16 bits are 0 to 65535, floats 0 to 1 or 0 to 255; a picture outside reaches from its darkest to its brightest.
    """
    from PIL import Image as Pillow

    if picture.mode.startswith("I;16"):
        return Pillow.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    raw = np.asarray(picture, dtype=np.float64)
    if not np.isfinite(raw).all():
        raise BadCell("holds NaN or infinite pixels")
    low, high = float(raw.min()), float(raw.max())
    fitting = [top for top in FULL_SCALE[picture.mode] if low >= 0 and high <= top]
    low, high = (0.0, fitting[0]) if fitting else (low, high)
    return Pillow.fromarray(np.rint((raw - low) * (255 / max(high - low, 1e-300))).astype(np.uint8))


def _readable(cells: Iterable[Any], root: Path | None) -> Iterator[Picture]:
    for cell in cells:
        try:
            yield read_image(cell, root)
        except BadCell:
            continue


def _sides(asked: int | tuple[int, int] | None, looks: list[tuple[int, int, str]]) -> tuple[int, int]:
    if isinstance(asked, int):
        return asked, asked
    if asked is not None:
        return asked
    if not looks:
        return 4 * STEP, 4 * STEP
    height = float(np.median([height for height, _, _ in looks]))
    width = float(np.median([width for _, width, _ in looks]))
    shrink = min(1.0, 64 / max(height, width))
    return _multiple(height * shrink), _multiple(width * shrink)


def _multiple(side: float) -> int:
    return max(STEP, round(side / STEP) * STEP)

"""Images: pillow reads them, one size for all, bytes 0-255 with the channels first."""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from absentia.data.kinds.base import Decoder, Kind, Value, source_of
from absentia.errors import BadCell, UserError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["Image", "ImageDecoder", "read_image"]

LARGEST = 64_000_000  # pixels; a larger picture is a mistake or an attack
SAMPLE = 64  # training images looked at to choose size and channels
STEP = 8  # sizes are multiples of this, so that small patches always fit


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
        sides = (self.size,) if isinstance(self.size, int) else self.size or ()
        if any(not isinstance(side, int) or side < STEP for side in sides):
            raise UserError(f"image size {self.size!r}: give a whole number of pixels, at least {STEP}")

    def fit(self, cells: Iterable[Any], *, root: Path | None = None) -> ImageDecoder:
        pictures = list(itertools.islice(_readable(cells, root), SAMPLE))
        channels = 3 if any(_coloured(p) for p in pictures) else 1
        return ImageDecoder(size=_sides(self.size, pictures), channels=channels, root=root)

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


def read_image(cell: Any, root: Path | None) -> Picture:
    """The whole picture of a cell, upright; raises `BadCell` when it is corrupt, truncated or huge."""
    from PIL import Image as Pillow
    from PIL import ImageOps, UnidentifiedImageError

    source = source_of(cell, root)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pillow's own size warning; ours below is an error
            picture = Pillow.open(io.BytesIO(source) if isinstance(source, bytes) else source)
            _check_size(picture)
            picture.load()
            return ImageOps.exif_transpose(picture)
    except UnidentifiedImageError:
        raise BadCell("is not an image that can be read") from None
    except Pillow.DecompressionBombError as error:
        raise BadCell(f"is a huge image: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise BadCell(f"is a corrupt image: {error}") from None


def _check_size(picture: Picture) -> None:
    width, height = picture.size
    if width * height > LARGEST:
        raise BadCell(f"is a huge image: {width} x {height} pixels, over {LARGEST:,}")


def _readable(cells: Iterable[Any], root: Path | None) -> Iterable[Picture]:
    for cell in cells:
        try:
            yield read_image(cell, root)
        except BadCell:
            continue


def _coloured(picture: Picture) -> bool:
    return picture.mode not in ("1", "L", "LA", "I", "F", "I;16")


def _sides(asked: int | tuple[int, int] | None, pictures: list[Picture]) -> tuple[int, int]:
    if isinstance(asked, int):
        return asked, asked
    if asked is not None:
        return asked
    if not pictures:
        return 4 * STEP, 4 * STEP
    height = float(np.median([p.height for p in pictures]))
    width = float(np.median([p.width for p in pictures]))
    shrink = min(1.0, 64 / max(height, width))
    return _multiple(height * shrink), _multiple(width * shrink)


def _multiple(side: float) -> int:
    return max(STEP, round(side / STEP) * STEP)

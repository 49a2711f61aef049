"""Draw one character of a DejaVu font as a small grey picture, the same pixels on every machine.

FreeType, as matplotlib ships it, draws the outline without hinting; nothing here depends on the screen, on
the system's fonts or on a text layout engine. The PNG is written without compression, so that its bytes do
not depend on a zlib either.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import ft2font

from absentia.errors import UserError

__all__ = ["SIDE", "draw", "fonts", "png"]

SIDE = 32
BASELINE = 24
FILES = tuple(
    f"DejaVu{family}{style}.ttf"
    for family, slanted in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-{slanted}", f"-Bold{slanted}")
)
Pixels = npt.NDArray[np.uint8]


def fonts() -> list[ft2font.FT2Font]:
    """The twelve text fonts of the DejaVu family that matplotlib ships, DejaVu Sans first."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in FILES:
        if not (folder / name).is_file():
            raise UserError(f"The font {name} is not in {folder}; matplotlib's wheel brings it: install that")
    return [ft2font.FT2Font(str(folder / name)) for name in FILES]


def draw(font: ft2font.FT2Font, code: int, *, size: int, shift: tuple[int, int]) -> Pixels | None:
    """Dark ink on white paper, uint8 (32, 32); None where the character leaves no ink.

    `font` must have the character `code`; `size` is in pixels per em, `shift` in pixels to the right and
    down. The ink stands on the common baseline, centred from left to right; what would not fit is drawn
    smaller, and what would hang over the edge is moved inside: no glyph is cut.
    """
    ink, top = _ink(font, code, size)
    while ink.size and max(ink.shape) > SIDE:
        size -= 1
        ink, top = _ink(font, code, size)
    if not ink.size:
        return None
    height, width = ink.shape
    x = min(max((SIDE - width) // 2 + shift[0], 0), SIDE - width)
    y = min(max(BASELINE - top + shift[1], 0), SIDE - height)
    paper = np.full((SIDE, SIDE), 255, np.uint8)
    paper[y : y + height, x : x + width] -= ink
    return paper


def png(pixels: Pixels) -> bytes:
    """A grey 8-bit PNG of a small picture (H, W), H * (W + 1) < 65,536: equal pixels, equal bytes."""
    height, width = pixels.shape
    lines = np.zeros((height, 1 + width), np.uint8)
    lines[:, 1:] = pixels
    raw = lines.tobytes()
    block = b"\x01" + struct.pack("<HH", len(raw), len(raw) ^ 0xFFFF) + raw  # one final block, not compressed
    stored = b"\x78\x01" + block + struct.pack(">I", zlib.adler32(raw))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", stored) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _ink(font: ft2font.FT2Font, code: int, size: int) -> tuple[Pixels, int]:
    """What is inked, within its bounding box (h, w), empty for a blank, and its height above the baseline."""
    font.set_size(size, 72)
    glyph = font.load_char(code, ft2font.LoadFlags.NO_HINTING)
    left, bottom, right, top = (edge / 64 for edge in glyph.bbox)
    bitmap = np.zeros((math.ceil(top - bottom) + 2, math.ceil(right - left) + 2), np.uint8)
    start = -math.floor(left)  # FreeType moves the ink by its left bearing; this moves it back
    font.draw_glyph_to_bitmap(bitmap, start, 0, glyph, antialiased=True)
    rows, columns = np.flatnonzero(bitmap.any(1)), np.flatnonzero(bitmap.any(0))
    if not len(rows):
        return np.zeros((0, 0), np.uint8), 0
    box = bitmap[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return box, math.ceil(top) - int(rows[0])

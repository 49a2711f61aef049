"""`glyphs`: the characters of the DejaVu fonts as a picture, a name and properties. Which script are they?

A real data set that is on every machine: the fonts come with matplotlib, the names and properties with
Python. The target is one of 25 scripts and families of symbols. Each modality tells something of it and none
tells all: a Latin A and a Greek Alpha look the same, letters of several scripts share a name once the
script's own name is taken out, and the properties separate only a few. Every character is drawn three times,
and stands in one split with all its pictures.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import datasets
import matplotlib
import pyarrow as pa
from matplotlib.ft2font import FT2Font

from absentia.data.catalog.cache import cached_table
from absentia.data.catalog.glyph_images import draw, fonts, png
from absentia.errors import UserError

__all__ = ["DECLARATION", "FAMILIES", "build"]

VERSION = 1  # of what this file and glyph_images.py make; a change of a cell is a new version
RENDERINGS = 3
SIZES = range(20, 25)  # pixels per em
SHIFTS = range(-1, 2)  # pixels
TRAIN, VALIDATION = 0.60, 0.15  # the rest is the test split

DECLARATION: dict[str, Any] = {
    "modality": [
        "image=image",
        "text=text",
        "properties=tabular@category,bidirectional,combining,width,mirrored,decomposition,parts,numeric",
    ],
    "target": "script",
    "id": "id",
    "split": "split",
}

# A script is known by how its characters' names begin; a family of symbols by that, or by its code points.
FAMILIES: dict[str, str | range] = {
    "Latin": "LATIN ",
    "Greek": "GREEK ",
    "Cyrillic": "CYRILLIC ",
    "Armenian": "ARMENIAN ",
    "Georgian": "GEORGIAN ",
    "Hebrew": "HEBREW ",
    "Arabic": "ARABIC ",
    "Nko": "NKO ",
    "Tifinagh": "TIFINAGH ",
    "Lao": "LAO ",
    "Lisu": "LISU ",
    "Canadian syllabics": "CANADIAN SYLLABICS ",
    "Modifier letter": "MODIFIER ",
    "Combining mark": "COMBINING ",
    "Mathematical": "MATHEMATICAL ",
    "Braille": "BRAILLE PATTERN DOTS",
    "Box drawing": "BOX DRAWINGS ",
    "Domino tile": "DOMINO TILE ",
    "Playing card": "PLAYING CARD ",
    "Tetragram": "TETRAGRAM FOR ",
    "Hexagram": "HEXAGRAM FOR ",
    "Number form": range(0x2150, 0x2190),
    "Arrow": range(0x2190, 0x2200),
    "Geometric shape": range(0x25A0, 0x2600),
    "Emoticon": range(0x1F600, 0x1F650),
}

# Words that name a family leave every name, not only those of the family: among the letters, only a modifier
# would still have a word such as "Cyrillic" ("modifier letter Cyrillic en").
BEGINNINGS = [mark.strip() for mark in FAMILIES.values() if isinstance(mark, str)]
TELLING = re.compile(rf"\b({'|'.join(BEGINNINGS)}|ROMAN NUMERAL|VULGAR FRACTION|FRACTION|ARROW\w*|FACE)\b")


class Rendering(NamedTuple):
    """One picture of a character and how it was drawn."""

    font: str
    image: bytes


def build(*, classes: Literal["inside", "outside"] = "inside", cache: Path | None = None) -> datasets.Dataset:
    """4,471 characters, three rows each; built in seconds, then kept in `cache` (see `default_folder`).

    Columns: `id` (U+0041, the character), `font` (its name, and the size and shift that were asked for),
    `split`, `image` (PNG bytes, grey, 32 x 32), `text`, those of the modality `properties`, and `script`, the
    target; `DECLARATION` says the same in the words of the command line. `classes="outside"` gives the
    characters that belong to none of the classes, without a target: something to pretrain on.
    The pictures are the same, byte for byte, everywhere with the same version of matplotlib.
    """
    if classes not in ("inside", "outside"):
        raise UserError(f'classes={classes!r} is neither "inside" nor "outside" of the 25 classes of glyphs')
    versions = f"{VERSION}-matplotlib{matplotlib.__version__}-unicode{unicodedata.unidata_version}"
    make = partial(_table, inside=classes == "inside")
    return datasets.Dataset(cached_table(f"glyphs-{classes}-{versions}", make, folder=cache))


def _table(*, inside: bool) -> pa.Table:
    faces = fonts()
    maps = [frozenset(face.get_charmap()) for face in faces]
    # DejaVu Sans has nearly all; the other fonts would add hundreds of mathematical letters and no class.
    codes = maps[0] if inside else frozenset().union(*maps)
    chosen = [code for code in codes if _named(code) and (_family(chr(code)) is not None) == inside]
    rows = []
    for code in sorted(chosen, key=lambda code: _draw_number("order", code)):
        having = [face for face, has in zip(faces, maps, strict=True) if code in has]
        described = _described(chr(code), inside=inside)
        rows += [described | rendering._asdict() for rendering in _renderings(code, having)]
    return pa.Table.from_pylist(rows, schema=_columns(inside=inside))


def _columns(*, inside: bool) -> pa.Schema:
    words, numbers = pa.string(), pa.int64()
    columns = {"id": words, "font": words, "split": words, "image": pa.binary(), "text": words}
    columns |= {"category": words, "bidirectional": words, "combining": numbers, "width": words}
    columns |= {"mirrored": numbers, "decomposition": words, "parts": numbers, "numeric": pa.float64()}
    return pa.schema(columns | {"script": words} if inside else columns)


def _described(character: str, *, inside: bool) -> dict[str, Any]:
    """The cells that all renderings of a character share."""
    cells = {
        "id": f"U+{ord(character):04X}",
        "split": _split(ord(character)),
        "text": _text(character),
        "category": unicodedata.category(character),
        "bidirectional": unicodedata.bidirectional(character),
        "combining": unicodedata.combining(character),
        "width": unicodedata.east_asian_width(character),
        "mirrored": unicodedata.mirrored(character),
        "decomposition": _decomposition(character),
        "parts": len(unicodedata.normalize("NFKD", character)),
        "numeric": unicodedata.numeric(character, None),
    }
    return cells | {"script": _family(character)} if inside else cells


def _named(code: int) -> bool:
    return unicodedata.name(chr(code), None) is not None


def _family(character: str) -> str | None:
    name = unicodedata.name(character)
    for family, mark in FAMILIES.items():
        if name.startswith(mark) if isinstance(mark, str) else ord(character) in mark:
            return family
    return None


def _text(character: str) -> str | None:
    """The name without the words that name a family; None, absent, where they were all it had."""
    left = TELLING.sub(" ", unicodedata.name(character))
    return " ".join(word.strip("-") for word in left.split() if word.strip("-")) or None


def _decomposition(character: str) -> str:
    """How the character falls into others: a tag such as "compat", "canonical" without a tag, or "none"."""
    parts = unicodedata.decomposition(character)
    if not parts:
        return "none"
    return parts[1 : parts.index(">")] if parts.startswith("<") else "canonical"


def _split(code: int) -> str:
    place = _draw_number("split", code) / 2**64
    return "train" if place < TRAIN else "val" if place < TRAIN + VALIDATION else "test"


def _renderings(code: int, faces: list[FT2Font]) -> list[Rendering]:
    """Three pictures that differ, in as many fonts as there are; none of a character without ink."""
    found: dict[bytes, Rendering] = {}
    for face, size, shift in _attempts(code, faces):
        pixels = draw(face, code, size=size, shift=shift)
        if pixels is None or len(found) == RENDERINGS:
            break
        image = png(pixels)
        font = f"{face.family_name} {face.style_name}, {size} px, {shift[0]:+d} {shift[1]:+d}"
        found.setdefault(image, Rendering(font, image))
    return list(found.values())


def _attempts(code: int, faces: list[FT2Font]) -> Iterator[tuple[FT2Font, int, tuple[int, int]]]:
    order = sorted(faces, key=lambda face: _draw_number(face.postscript_name, code))
    for turn in range(100):
        number = _draw_number(f"rendering {turn}", code)
        number, size = divmod(number, len(SIZES))
        number, right = divmod(number, len(SHIFTS))
        number, down = divmod(number, len(SHIFTS))
        yield order[turn % len(order)], SIZES[size], (SHIFTS[right], SHIFTS[down])


def _draw_number(purpose: str, code: int) -> int:
    """A number below 2**64 that depends on its purpose and the character alone."""
    return int.from_bytes(hashlib.sha256(f"glyphs {purpose} U+{code:04X}".encode()).digest()[:8], "big")

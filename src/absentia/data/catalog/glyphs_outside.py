"""`glyphs-outside`: the characters that belong to none of the classes of `glyphs`, to pretrain on.

The same pictures, names and properties of other characters, without a target; none of them is in `glyphs`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets

from absentia.data.catalog import glyphs

__all__ = ["DECLARATION", "build"]

DECLARATION: dict[str, Any] = {key: value for key, value in glyphs.DECLARATION.items() if key != "target"}


def build(*, cache: Path | None = None) -> datasets.Dataset:
    """Three rows for each character; the columns of `glyphs` without `script`."""
    return glyphs.build(classes="outside", cache=cache)

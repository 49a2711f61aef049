"""Reconstructions of what was hidden, beside what it truly is: errors by pattern and contrast, and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from absentia.evaluate.ranking import pattern_words
from absentia.evaluate.sections.examples import Album
from absentia.evaluate.sections.regions import canonical
from absentia.evaluate.wording import NOT_KNOWN, finite, short

__all__ = ["reconstruction"]

Json = Mapping[str, Any]
MOST_ROWS, MOST_CONTRASTS, MOST_SHOWN, MOST_MADE = 63, 8, 2, 4


def reconstruction(report: Json) -> dict[str, Any] | None:
    """A row per pattern, with the error of each hidden contrast in percent of the mean image's; None without any."""
    found = report.get("reconstruction")
    if not found or not found.get("patterns"):
        return None
    names = [name for name in report["modalities"] if any(name in line["errors"] for line in found["patterns"])]
    names = names[:MOST_CONTRASTS]
    lines = [line for line in canonical(found["patterns"]) if any(name in line["errors"] for name in names)]
    rows = [_row(line, names) for line in lines]
    cells = [cell for row in rows for cell in row["cells"] if cell["words"]]
    album = Album()
    return {
        "names": [short(name, 20) for name in names],
        "usual": short(found.get("usual") or "", 20),
        "train_rows": found.get("train_rows"),
        "rows": rows[:MOST_ROWS],
        "left": max(0, len(lines) - MOST_ROWS),
        "tested": found.get("rows"),
        "scale": [_scale(found, name) for name in names],
        "worse": sum(cell["worse"] for cell in cells),
        "cells": len(cells),
        "shown": [_shown(row, album) for row in (found.get("shown") or [])[:MOST_SHOWN]],
    }


def _row(line: Json, names: list[str]) -> dict[str, Any]:
    return {"name": pattern_words(line["present"], 40), "cells": [_cell(line["errors"].get(name)) for name in names]}


def _cell(errors: Json | None) -> dict[str, Any]:
    """Empty where the contrast is there; no better than the mean image from 100 % on."""
    made, usual = (finite((errors or {}).get(key)) for key in ("error", "usual"))
    if made is None:
        return {"words": "", "worse": False}
    if not usual:
        return {"words": f"{made:.3f}", "worse": False}
    return {"words": f"{100 * made / usual:.0f}\u00a0%", "worse": made >= usual}


def _scale(found: Json, name: str) -> str:
    """The error of the mean image itself, which is much the same for every pattern."""
    usual = [finite(line["errors"][name].get("usual")) for line in found["patterns"] if name in line["errors"]]
    known = [value for value in usual if value is not None]
    return f"{sum(known) / len(known):.3f}" if known else NOT_KNOWN


def _shown(row: Json, album: Album) -> dict[str, Any]:
    return {
        "id": short(row.get("id", ""), 60),
        "contrasts": [
            {
                "name": short(contrast.get("name", ""), 28),
                "truth": album.add(str(contrast.get("truth") or "")),
                "made": [_made(made, album) for made in (contrast.get("made") or [])[:MOST_MADE]],
            }
            for contrast in (row.get("contrasts") or [])[:MOST_CONTRASTS]
        ],
    }


def _made(made: Json, album: Album) -> dict[str, Any]:
    error = finite(made.get("error"))
    marks = list(made.get("present", {}).items())[:MOST_CONTRASTS]
    return {
        "src": album.add(str(made.get("src") or "")),
        "off": album.add(str(made.get("off") or "")),
        "error": NOT_KNOWN if error is None else f"{error:.3f}",
        "marks": [{"name": short(name, 14), "here": bool(here)} for name, here in marks],
    }

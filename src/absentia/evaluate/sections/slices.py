"""Slices of some rows: contrasts and truth, and the answer under every pattern, worst first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from absentia.evaluate.sections.examples import Album
from absentia.evaluate.wording import Scale, finite, short

__all__ = ["slices"]

Json = Mapping[str, Any]
MOST_ROWS, MOST_ANSWERS, MOST_SCANS, MOST_REGIONS = 3, 15, 8, 5
COLOUR = re.compile(r"#[0-9a-f]{6}")


def slices(report: Json) -> list[dict[str, Any]]:
    """Rows with what may be shown of them."""
    album = Album()
    return [_row(row, album) for row in (report.get("slices") or [])[:MOST_ROWS]]


def _row(row: Json, album: Album) -> dict[str, Any]:
    worst = sorted(row.get("answers") or [], key=lambda a: finite(a.get("dice")) or 0.0)
    regions = {name: colour for name, colour in row.get("regions", {}).items() if COLOUR.fullmatch(str(colour))}
    return {
        "id": short(row.get("id", ""), 60),
        "scans": [
            {"name": short(name, 28), "src": album.add(str(src))}
            for name, src in list(row.get("scans", {}).items())[:MOST_SCANS]
        ],
        "absent": [short(name, 28) for name in (row.get("absent") or [])[:MOST_SCANS]],
        "truth": album.add(str(row.get("truth") or "")),
        "regions": [{"name": short(n, 28), "colour": c} for n, c in list(regions.items())[:MOST_REGIONS]],
        "answers": [_answer(answer, album) for answer in worst[:MOST_ANSWERS]],
    }


def _answer(answer: Json, album: Album) -> dict[str, Any]:
    marks = list(answer.get("present", {}).items())[:MOST_SCANS]
    return {
        "src": album.add(str(answer.get("src") or "")),
        "score": Scale.of("dice", []).figure(answer.get("dice")),
        "marks": [{"name": short(name, 14), "here": bool(here)} for name, here in marks],
    }

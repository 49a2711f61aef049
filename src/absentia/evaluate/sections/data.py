"""The data: what is present how often, the mask plan as asked and as it came out, unreadable cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from absentia.evaluate.ranking import pattern_words
from absentia.evaluate.sections.listing import MOST_ROWS, Listing, listed
from absentia.evaluate.wording import finite, short, value_words

__all__ = ["bad_cells", "pattern_counts", "plan_rates", "shares"]

Json = Mapping[str, Any]
RATES = {"p_absent": "absent", "p_incomplete": "incomplete rows"}


def shares(report: Json) -> dict[str, Any] | None:
    """How often each modality is present in each split."""
    splits = {name: split for name, split in (report.get("splits") or {}).items() if split}
    if not splits:
        return None
    names = list(report["modalities"])
    rows = [
        {
            "name": short(name, 40),
            "cells": [_share((split.get("present") or {}).get(name)) for split in splits.values()],
        }
        for name in names[:MOST_ROWS]
    ]
    whole = {
        "name": "complete rows",
        "cells": [
            _share(None if (p := finite(split.get("p_incomplete"))) is None else 1 - p) for split in splits.values()
        ],
    }
    return {
        "splits": [
            {"name": short(name, 20), "rows": f"{finite(split.get('rows')) or 0:,.0f}"}
            for name, split in splits.items()
        ],
        "rows": rows,
        "complete": whole,
        "left": max(0, len(names) - MOST_ROWS),
    }


def _share(value: Any) -> dict[str, Any]:
    number = finite(value)
    return (
        {"text": "–", "width": 0.0}
        if number is None
        else {"text": f"{number:.1%}".replace("%", "\u00a0%"), "width": 100 * min(1.0, max(0.0, number))}
    )


def pattern_counts(report: Json) -> dict[str, Any] | None:
    """How many rows of each split have each pattern, the most frequent first."""
    splits = {
        name: split["patterns"]
        for name, split in (report.get("splits") or {}).items()
        if split and split.get("patterns")
    }
    if not splits:
        return None
    totals: dict[str, int] = {}
    for counts in splits.values():
        for pattern, count in counts.items():
            totals[pattern] = totals.get(pattern, 0) + count
    most = max(totals.values(), default=0) or 1
    names = sorted(totals, key=lambda pattern: -totals[pattern])
    rows = [
        {
            "name": short(_from_code(name, report), 90),
            "cells": [f"{counts.get(name, 0):,}" for counts in splits.values()],
            "width": f"{100 * totals[name] / most:.1f}",
        }
        for name in names
    ]
    return {"splits": [short(name, 20) for name in splits], "listing": listed(rows, 16)}


def _from_code(code: str, report: Json) -> str:
    """ "image+text" in words, where all its names are known."""
    here = code.split("+")
    return (
        pattern_words({name: name in here for name in report["modalities"]}, 28)
        if set(here) <= set(report["modalities"])
        else code or "nothing"
    )


def plan_rates(report: Json) -> Listing | None:
    """What the mask plan asked for beside what came about; what neither settles is left out."""
    plan = report.get("plan") or {}
    asked, realised = (dict(_leaves(plan.get(side) or {})) for side in ("asked", "realised"))
    paths = list(dict.fromkeys([*asked, *realised]))
    if not paths:
        return None
    return listed(
        {
            "name": " · ".join(short(RATES.get(part, part.replace("_", " ")), 40) for part in path),
            "asked": value_words(asked.get(path), 60) if path in asked else "",
            "realised": value_words(realised.get(path), 60) if path in realised else "",
        }
        for path in paths
    )


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value in nested mappings with the keys that lead to it, but for nulls."""
    if isinstance(tree, Mapping):
        for key, inner in tree.items():
            yield from _leaves(inner, (*path, str(key)))
    elif tree is not None:
        yield path, tree


def bad_cells(report: Json) -> dict[str, Any] | None:
    """Cells that could not be read and what became of them."""
    found = report.get("bad_cells") or {}
    if not found.get("count"):
        return None
    rows = [
        {key: value_words(cell.get(key), 160) for key in ("row", "column", "reason", "became")}
        for cell in (found.get("cells") or [])[:MOST_ROWS]
    ]
    shown = listed(rows)
    return {
        "policy": short(found.get("policy", ""), 40),
        "count": f"{found['count']:,}",
        "rows": shown.rows,
        "left": max(0, found["count"] - len(shown.rows)),
    }
